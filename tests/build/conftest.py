import sys
from pathlib import Path

# tests/browser.py serves tests of several folders.
sys.path.insert(0, str(Path(__file__).parents[1]))
