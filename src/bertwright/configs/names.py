"""Names the recipes that come along, without loading what they need."""

from __future__ import annotations

from pathlib import Path

RECIPES = {
    name: Path(__file__).with_name(f"{name}.toml")
    for name in ("classic-fast", "classic", "classic-muon", "fast", "adapt")
}
