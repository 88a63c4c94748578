"""The files about the project agree: one version everywhere, and a changelog of known headings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import bertwright

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_file_names_the_same_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert PROJECT["version"] == bertwright.__version__
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation


def test_the_changelog_is_of_versions_and_known_sections() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, re.M)
    assert all(re.fullmatch(r"Unreleased|\d+\.\d+\.\d+( - \d{4}-\d\d-\d\d)?", version) for version in versions)
    assert len(set(versions)) == len(versions) > 0
    for version in re.split(r"^## .+$", text, flags=re.M)[1:]:
        sections = re.findall(r"^### (.+)$", version, re.M)
        assert set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        assert len(set(sections)) == len(sections)


def test_the_source_distribution_holds_the_files_that_pyproject_and_manifest_name() -> None:
    named = [name for line in (ROOT / "MANIFEST.in").read_text().splitlines() for name in line.split()[1:]]
    named = [name for name in named if "*" not in name and not name.startswith("*")]
    assert {*named, *PROJECT["license-files"], PROJECT["readme"]} - {path.name for path in ROOT.iterdir()} == set()
