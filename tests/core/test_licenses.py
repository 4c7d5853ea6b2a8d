import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdmml.core.licenses import normalise, policy
from birdmml.errors import UsageError


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("CC-BY-NC", "CC-BY-NC-4.0"),
        ("cc-by-nc", "CC-BY-NC-4.0"),
        ("by-nc", "CC-BY-NC-4.0"),
        ("CC-BY", "CC-BY-4.0"),
        ("cc-by-nc-nd", "CC-BY-NC-ND-4.0"),
        ("CC0", "CC0-1.0"),
        ("cc0", "CC0-1.0"),
        ("CC0-1.0", "CC0-1.0"),
        ("publicdomain/zero/1.0", "CC0-1.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("//creativecommons.org/licenses/by-nc-sa/4.0/", "CC-BY-NC-SA-4.0"),
        ("https://creativecommons.org/licenses/by-nc-sa/3.0", "CC-BY-NC-SA-3.0"),
        ("https://creativecommons.org/licenses/by-sa/4.0/deed.en", "CC-BY-SA-4.0"),
        ("https://www.creativecommons.org/licenses/by/2.5/legalcode", "CC-BY-2.5"),
        ("CC-BY-NC-SA-3.0", "CC-BY-NC-SA-3.0"),
        ("cc-by-sa-2.0", "CC-BY-SA-2.0"),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("CC BY-NC", "CC-BY-NC-4.0"),
    ],
)
def test_spellings_of_the_providers_become_spdx_ids(text, spdx):
    assert normalise(text) == spdx
    assert normalise(f" {text}\n") == spdx


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "C",
        "CC",
        "CC (variant on the Xeno-canto page)",
        "all rights reserved",
        "public domain",
        "MIT",
        "CC-BY-9.9",
        "CC-BY-NC-ND-1.0",
        "by-sa-nc",
        "by-sa-nd",
        "by-by",
        "nc",
        "CC-BY-NC-4.0 or later",
        "//creativecommons.org/licenses/by-nc/5.0/",
        "//creativecommons.org.example/licenses/by-nc/4.0/",
        "https://example.org/?u=//creativecommons.org/licenses/by/4.0/",
        "javascript://creativecommons.org/licenses/by/4.0/",
    ],
)
def test_anything_else_is_unknown(text):
    assert normalise(text) == "unknown"


@given(st.text())
def test_the_result_is_always_its_own_normal_form(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.text() | st.sampled_from(["CC-BY-ND-4.0", "CC0-1.0", "by-nc", "CC-BY-NC-ND-3.0", "unknown"]))
def test_the_default_policy_takes_what_is_known_and_allows_derivatives(text):
    found = normalise(text)
    assert policy().allows(found) == (found != "unknown" and "ND" not in found)


@pytest.mark.parametrize(
    ("given_", "taken", "refused"),
    [
        ("CC-BY", ["CC-BY-4.0", "CC-BY-2.5"], ["CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC0-1.0", "CC-BY-ND-4.0"]),
        ("cc0, by-nc", ["CC0-1.0", "CC-BY-NC-1.0"], ["CC-BY-NC-SA-4.0", "CC-BY-4.0"]),
        ("CC-BY-NC-4.0", ["CC-BY-NC-4.0"], ["CC-BY-NC-3.0"]),
        ("CC-BY-ND,", ["CC-BY-ND-4.0"], ["CC-BY-NC-ND-4.0", "unknown"]),
    ],
)
def test_a_policy_holds_what_it_names_and_no_relatives(given_, taken, refused):
    assert [policy(given_).allows(x) for x in taken] == [True] * len(taken)
    assert [policy(given_).allows(x) for x in refused] == [False] * len(refused)


@pytest.mark.parametrize("wrong", ["mine", "unknown", "CC-BY-9.0", "CC-BY,NC"])
def test_a_policy_that_names_no_licence_is_refused(wrong):
    with pytest.raises(UsageError, match="--licenses"):
        policy(wrong)
