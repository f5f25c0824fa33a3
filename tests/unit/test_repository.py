"""Which repository URLs are accepted, and which of them a clone token may be sent to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd import repository

NOT_REMOTE = "repo_url must be a remote URL using https://, http://, or git://"


@pytest.mark.contract("DSP-12")
@pytest.mark.parametrize(
    "url",
    [
        *("https://h/p", "http://h/p", "git://h/p", "https://h/p/", "https://h/a/b.git"),
        *("https://h:8443/p", "https://[2001:db8::1]/p", "https://[::1]:8443/p", "https://H.Org/p"),
        *(
            "https://my_host/p",
            "https://h/ü",
            "https://h/a%20b",
            "https://h/~u/p@v1",
            "https://h//p",
        ),
    ],
)
def test_a_remote_url_is_accepted(url: str) -> None:
    assert repository.url_fault(url) is None


@pytest.mark.contract("DSP-13")
@pytest.mark.parametrize(
    "url",
    [
        *("/srv/repo", "./repo", "repo", "file:///srv/repo", "ssh://h/p", "host:a/b", "user@h:a/b"),
        *("ftp://h/p", "gopher://h/p", "HTTPS://h/p", "Https://h/p", "ext::sh", "--upload-pack=x"),
        *(
            "https://h",
            "https://h/",
            "https://h//",
            "https:///p",
            "https://",
            "https:/h/p",
            "https:h",
        ),
        *("https://h/p?q", "https://h/p#f", "https://h?q", "https://:443/p", "https://h:/p"),
        *("https://h:0/p", "https://h:65536/p", "https://h:x/p", "https://-h/p", "https://[h]/p"),
        *("https://h%41/p", "https://hé/p", "https://a,b/p"),
    ],
)
def test_what_is_no_remote_url_is_refused(url: str) -> None:
    assert (repository.url_fault(url) or "").startswith(NOT_REMOTE)


@pytest.mark.contract("DSP-12")
@pytest.mark.parametrize("url", [" https://h/p", "https://h/p ", "https://h/p\n", "\thttps://h/p"])
def test_outer_whitespace_is_refused_as_such(url: str) -> None:
    assert "leading or trailing whitespace" in (repository.url_fault(url) or "")


@pytest.mark.contract("DSP-12")
@pytest.mark.parametrize("url", ["", " "])
def test_a_blank_url_is_refused_as_such(url: str) -> None:
    assert repository.url_fault(url) == "repo_url must not be empty"


@pytest.mark.contract("DSP-12")
@pytest.mark.parametrize(
    "url", ["https://h/a b", "https://h/a\nb", "https://h/a\0", "https://h\\p/x"]
)
def test_whitespace_control_characters_and_backslashes_are_refused(url: str) -> None:
    text = "repo_url must not contain whitespace, control characters or backslashes"
    assert repository.url_fault(url) == text


@pytest.mark.contract("DSP-14", "F-49")
@pytest.mark.parametrize(
    "url",
    ["https://user@h/p", "https://user:secret@h/p", "https://@h/p", "git://secret@h", "http://a@"],
)
def test_a_url_with_credentials_is_refused_without_repeating_them(url: str) -> None:
    fault = repository.url_fault(url) or ""
    assert "credential-bearing URLs are not accepted" in fault
    assert "secret" not in fault
    assert "#" not in fault


@pytest.mark.contract("DSP-13")
@given(st.text())
def test_any_text_is_a_url_with_an_origin_or_refused(text: str) -> None:
    if repository.url_fault(text) is None:
        assert text.lower().startswith(repository.origin(text).split(":")[0])


@pytest.mark.contract("DSP-15")
@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://GitHub.com/a/b", "https://github.com"),
        ("https://h:443/p", "https://h"),
        ("http://h:80/p", "http://h"),
        ("git://h:9418/p", "git://h"),
        ("https://h:0443/p", "https://h"),
        ("https://h:80/p", "https://h:80"),
        ("https://[2001:DB8::1]:8443/p", "https://[2001:db8::1]:8443"),
        ("https://h", "https://h"),
    ],
)
def test_an_origin_is_scheme_host_and_uncommon_port(url: str, origin: str) -> None:
    assert repository.origin(url) == origin


@pytest.mark.contract("DSP-15")
def test_what_has_no_origin_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="repo_url must be"):
        repository.origin("git@h:p")


@pytest.mark.contract("DSP-15")
@pytest.mark.parametrize("url", ["http://h/p", "git://h/p"])
def test_a_token_crosses_no_plain_connection(url: str) -> None:
    text = "repo_url must use https:// when repo_token is set"
    assert repository.token_fault(url, None) == text


@pytest.mark.contract("DSP-15")
@pytest.mark.parametrize("bound", ["https://h", "https://H:443", None])
def test_a_token_goes_to_its_own_origin(bound: str | None) -> None:
    assert repository.token_fault("https://h/p", bound) is None


@pytest.mark.contract("DSP-15")
@pytest.mark.parametrize("url", ["https://other/p", "https://h:8443/p", "https://h.evil/p"])
def test_a_token_goes_nowhere_else(url: str) -> None:
    assert "clone token is for https://h" in (repository.token_fault(url, "https://h") or "")


@pytest.mark.contract("DSP-15")
@pytest.mark.parametrize(
    ("repo", "declared", "bound"),
    [
        ("https://h/p", None, "https://h"),
        ("https://h/p", "https://G", "https://g"),
        (None, "https://g/", "https://g"),
        (None, None, None),
    ],
)
def test_a_token_is_bound_to_the_declared_origin_or_that_of_the_repo(
    repo: str | None, declared: str | None, bound: str | None
) -> None:
    assert repository.token_origin(repo, declared) == bound
