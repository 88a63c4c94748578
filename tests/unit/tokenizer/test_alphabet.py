"""The alphabet follows the text: covered characters are kept, and those inside words are told apart."""

from bertwright.tokenizer.alphabet import choose_alphabet, code_points, count_characters, standing_alone


def test_counts_characters_and_those_inside_words() -> None:
    counts = count_characters(["ab a", ["b", "ca"]])
    assert counts.total[ord("a")] == 3
    assert counts.total[ord("b")] == 2
    assert counts.continuing[ord("a")] == 1
    assert counts.continuing[ord("c")] == 0


def test_normalised_characters_are_kept_sorted() -> None:
    alphabet, inside = choose_alphabet(count_characters(["Ba a, 中"]), str.lower, room=100)
    assert alphabet == [",", "a", "b", "中"]
    assert inside == ["a"]


def test_the_rarest_characters_make_room_for_pieces() -> None:
    text = "".join(chr(0x4E00 + i) * (100 - i) for i in range(100))
    alphabet, _ = choose_alphabet(count_characters([text]), str, room=10)
    assert alphabet == [chr(0x4E00 + i) for i in range(10)]


def test_characters_that_stand_alone() -> None:
    assert standing_alone()[code_points("a1 ,中。\u3000")].all()
    assert not standing_alone()[code_points("é□〇１")].any()
