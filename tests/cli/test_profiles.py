"""Which profile, what is in it, and what is said when it is wrong; by the real command where a person would see it."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from skahactl import profiles
from skahactl.errors import ProfileError
from skahactl.ledger.database import open_ledger
from skahactl.model import Limits, Resources
from skahactl.profile import Auth, ClientSettings, LocalSettings
from skahactl.profile_file import PROFILE
from tests import ledgers
from tests.workplace import Workplace

FULL = """
server = "https://skaha.example.org/skaha/v1/"
registry = "images.example.org"
registry-user = "bob"
registry-secret-env = "HARBOR"

[auth]
method = "token"
token-file = "tokens/skaha"

[defaults.resources]
cores = 2
ram = 8

[defaults.limits]
alive = 512
pending-timeout = "2h"

[vars]
survey = "deep"
chains = 4
dry = true

[client]
concurrency = 4
timeout = "1m"
ca-file = "~/ca.pem"

[local]
kill-after = 0.5
"""


@pytest.fixture
def here(tmp_path: Path) -> Workplace:
    """Where no profile is chosen."""
    return Workplace(tmp_path, extra={"SKAHACTL_PROFILE": ""})


def test_a_file_is_read_with_every_key(here: Workplace) -> None:
    path = here.add_profile("full", FULL)
    profile = profiles.load("full", here.environ)
    assert (profile.name, profile.path) == ("full", str(path))
    assert profile.server == "https://skaha.example.org/skaha/v1"
    assert profile.auth == Auth("token", token_file=str(path.parent / "tokens/skaha"))
    assert (profile.registry.host, profile.registry.user) == ("images.example.org", "bob")
    assert profile.registry.secret_env == "HARBOR"
    assert profile.resources == Resources(2.0, 8.0)
    assert profile.limits == Limits(alive=512, pending_timeout=7200.0)
    assert profile.vars == {"survey": "deep", "chains": "4", "dry": "true"}
    assert (profile.client.concurrency, profile.client.timeout, profile.client.settle) == (4, 60.0, 120.0)
    assert profile.client.ca_file == str(here.root / "ca.pem")
    assert (profile.local.kill_after, profile.local.memory) == (0.5, 3600.0)


def test_what_profile_show_prints_is_a_profile_again(here: Workplace) -> None:
    here.add_profile("full", FULL)
    here.add_profile("again", here.run("profile", "show", "full").stdout)
    first, second = profiles.load("full", here.environ), profiles.load("again", here.environ)
    assert (first.auth, first.client, first.local, first.vars, first.limits, first.resources, first.registry) == (
        second.auth,
        second.client,
        second.local,
        second.vars,
        second.limits,
        second.resources,
        second.registry,
    )
    assert here.data("profile", "show", "full")["client"]["concurrency"] == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'server = "https://a/skaha/v1"\nconcurrency = 3\n',
            "concurrency: unknown key (did you mean 'concurrency' in [client]?)",
        ),
        (
            'server = "https://a/skaha/v1"\n[client]\nconcurency = 3\n',
            "client.concurency: unknown key in [client] (did you mean 'concurrency'?)",
        ),
        (
            'server = "https://a/skaha/v1"\n[client]\nconcurrency = "3"\n',
            'client.concurrency: expected a whole number, found "3" (write it without quotes)',
        ),
        (
            'server = "https://a/skaha/v1"\n[auth]\nmethod = "cookie"\n',
            "auth.method: expected one of x509, token, none",
        ),
        (
            'server = "https://a/skaha/v1"\n[auth]\nmethod = "token"\n',
            "needs one of token-file, token-env and token-command",
        ),
        (
            'server = "https://a/skaha/v1"\n[auth]\nmethod = "token"\ntoken-file = "x"\ntoken-env = "X"\n',
            "auth: token-file and token-env are both set; keep one",
        ),
        (
            'server = "local"\n[auth]\nmethod = "token"\ntoken-file = "x"\ntoken-env = "X"\ntoken-command = ["x"]\n',
            "auth: token-file, token-env and token-command are all set; keep one",
        ),
        (
            'server = "local"\n[auth]\nmethod = "token"\ntoken-command = "echo hi"\n',
            'found a string (write token-command = ["echo", "hi"])',
        ),
        (
            'server = "local"\n[notify]\ncommand = "mail -s \'the end\' me"\n',
            'found a string (write command = ["mail", "-s", "the end", "me"])',
        ),
        (
            'server = "local"\n[notify]\ncommand = "date >> ends"\n',
            'a string that needs a shell (write command = ["sh", "-c", "date >> ends"])',
        ),
        ('server = "local"\n[notify]\ncommand = ""\n', "notify.command: the list is empty"),
        ('server = "https://a/skaha/v1"\ntoken = "s3cret"\n', "secrets are not written into profiles"),
        ('server = "https://a/skaha"\n', "expected the version at the end"),
        ('server = "https://bob:s3cret@a/skaha/v1"\n', "credentials do not belong in an address"),
        ('server = "ftp://a/skaha/v1"\n', "expected an address such as"),
        (
            "[local]\nslots = 1\n",
            'server: missing (write the address, as in https://ws-uv.canfar.net/skaha/v1, or server = "local")',
        ),
        ('server = "https://a/skaha/v1"\nregistry-user = "bob"\n', "registry-user: goes with"),
        ('server = "https://a/skaha/v1"\n[vars]\nx = 1.5\n', "vars.x: 1.5 could be sent as 1.5 or 1.50"),
        ("server = \n", "not TOML"),
    ],
)
def test_a_mistake_is_reported_with_its_key_and_never_its_secret(here: Workplace, text: str, says: str) -> None:
    path = here.add_profile("bad", text)
    with pytest.raises(ProfileError) as told:
        profiles.load("bad", here.environ)
    assert says in told.value.message
    assert told.value.message.startswith(f"{path}:")
    assert "s3cret" not in str(told.value.data())


@pytest.mark.once
def test_an_impossible_address_is_an_error_that_names_its_setting(here: Workplace) -> None:
    here.write("job.toml", 'name = "a"\nimage = "b/c:1"\n')
    for host in ("h:99999", "h:abc", "a..b", "a" * 64 + ".org"):
        url = f"https://{host}/skaha/v1"
        here.add_profile("bad", f'server = "{url}"\n')
        assert "bad.toml:1:10: server: " in here.run("-p", "bad", "diff", "job.toml", expect=2).stderr
    here.add_profile("bad", f'server = "https://a.org/skaha/v1"\n[auth]\nmethod = "x509"\nlogin-url = "{url}"\n')
    assert "auth.login-url: " in here.run("login", "bad", expect=2).stderr
    done = here.run("profile", "add", "mine", "--server", url, "--auth", "none", "--no-check", expect=2)
    assert done.stderr.startswith("error: --server: ")
    assert here.run("diff", "job.toml", expect=2, extra={"SKAHACTL_SERVER": url}).stderr.startswith(
        "error: SKAHACTL_SERVER: "
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = " + "[" * 2000 + "]" * 2000, "nested too deeply"),
        ("x = " + "9" * 5000, "too many digits"),
        ("client.timeout = 0x" + "9" * 5000, "too many digits"),
        ("# " + "x" * (1 << 20), "more than 1 MiB"),
    ],
    ids=["nested", "digits", "hexadecimal digits", "large"],
)
def test_a_file_beyond_the_limits_of_a_profile(here: Workplace, text: str, says: str) -> None:
    path = here.add_profile("bad", SERVER + text)
    with pytest.raises(ProfileError, match=says) as told:
        profiles.load("bad", here.environ)
    assert str(path) in (told.value.where, told.value.message.partition(":")[0])


SERVER = 'server = "https://a/skaha/v1"\n'
TEXT = "expected a string in quotes"
WHOLE = "expected a whole number"
NUMBER = "expected a number"
DURATION = 'expected a duration such as "2h"'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("registry = 1", f"registry: {TEXT}"),
        ('registry = ""', "registry: the string is empty"),
        ('registry-user = "bob"\nregistry-secret-file = [""]', f"registry-secret-file: {TEXT}"),
        ("auth = 3", "auth: expected a table"),
        ('client = ["timeout"]', "client: expected a table"),
        ("vars = true", "vars: expected a table"),
        ('defaults.limits = "2h"', "defaults.limits: expected a table"),
        ("auth = {}", "auth.method: missing"),
        ("auth.method = []", "auth.method: expected one of x509, token, none, found a list"),
        (
            'auth.method = "X509"',
            "auth.method: expected one of x509, token, none, found \"X509\" (did you mean 'x509'?)",
        ),
        ("auth = { method = 'x509', certificate = 1979-05-27 }", f"auth.certificate: {TEXT}"),
        ("defaults.resources.cores = true", f"defaults.resources.cores: {NUMBER}"),
        ('defaults.resources.cores = "2"', f"defaults.resources.cores: {NUMBER}"),
        ("defaults.resources.cores = 0", "defaults.resources.cores: expected more than 0, found 0"),
        ("defaults.resources.ram = nan", f"defaults.resources.ram: {NUMBER}, found nan"),
        (f"defaults.resources.ram = 1{'0' * 400}", f"defaults.resources.ram: {NUMBER}"),
        ("defaults.resources.gpus = true", f"defaults.resources.gpus: {WHOLE}"),
        ("defaults.resources.gpus = 1.0", f"defaults.resources.gpus: {WHOLE}"),
        ("defaults.limits.alive = 0", "defaults.limits.alive: expected at least 1, found 0"),
        (
            "defaults.limits.pending-timeout = true",
            f"defaults.limits.pending-timeout: {DURATION}, found true",
        ),
        ("client.concurrency = 129", "client.concurrency: expected at most 128, found 129"),
        ("client.timeout = 0", "client.timeout: expected more than 0, found 0"),
        ('client.timeout = "0s"', 'client.timeout: expected more than 0, found "0s"'),
        ("client.timeout = -1", "client.timeout: expected a duration of at least 0, found -1"),
        ("client.settle = nan", "client.settle: expected a duration of at least 0, found nan"),
        (
            'client.settle = "-2h"',
            "client.settle: expected a duration: invalid duration '-2h' (examples: 30s, 5m, 2h, 1d, 1h30m)",
        ),
        ("client.settle = 07:32:00", f"client.settle: {DURATION}, found 07:32:00"),
        (f"client.settle = 1{'0' * 400}", "client.settle: expected a duration, found a number that is too large"),
        ("local.slots = 2.0", f"local.slots: {WHOLE}"),
        ("local.kill-after = {}", f"local.kill-after: {DURATION}, found a table"),
        ("vars.x = []", "vars.x: expected a string, a whole number, true or false, found a list"),
        ("client.poll_min = 1", "client.poll_min: unknown key in [client] (did you mean 'poll-min'?)"),
        ("Registry = 1", "Registry: unknown key (did you mean 'registry'?)"),
        ("defaults.zzz = 1", "defaults.zzz: unknown key in [defaults] (known keys: resources, limits, logs)"),
        (
            "auth = { method = 'none', zzz = 1 }",
            f"auth.zzz: unknown key in [auth] (known keys: {', '.join(PROFILE.keys_at(('auth',)))})",
        ),
        ("slots = 1", "slots: unknown key (did you mean 'slots' in [local]?)"),
        ("memory = 1", "memory: unknown key (did you mean 'memory' in [client]?)"),
        (
            'client."*" = 1',
            f"client.*: unknown key in [client] (known keys: {', '.join(PROFILE.keys_at(('client',)))})",
        ),
        ('registry-secret-env = "E"', "registry-user: goes with registry-secret-env or registry-secret-file, one of"),
        (
            'auth = { method = "none", token-env = "E" }',
            'auth.token-env: needs method = "token", but the method is "none"',
        ),
        ('auth = { method = "none", certificate = "c" }', 'auth.certificate: belongs to method = "x509", and this is'),
    ],
)
def test_what_a_key_may_not_hold(here: Workplace, line: str, says: str) -> None:
    here.add_profile("bad", f"{SERVER}{line}\n")
    with pytest.raises(ProfileError) as told:
        profiles.load("bad", here.environ)
    assert says in told.value.message
    assert told.value.message.count("\n") == 0


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("defaults.resources.cores = 2", "resources", Resources(cores=2.0)),
        ("defaults.resources.ram = 0.5", "resources", Resources(ram=0.5)),
        ("defaults.resources = {}", "resources", Resources()),
        ("defaults.limits = { pending = 1, pending-timeout = 0 }", "limits", Limits(pending=1, pending_timeout=0.0)),
        ("vars = { n = -1, t = true, 'a b' = '' }", "vars", {"n": "-1", "t": "true", "a b": ""}),
        ("client.timeout = inf", "client", ClientSettings(timeout=float("inf"))),
        ('client = { settle = 0, memory = "1h30m" }', "client", ClientSettings(settle=0.0, memory=5400.0)),
        ("local = { slots = 1, memory = 2 }", "local", LocalSettings(slots=1, memory=2.0)),
        ('auth.method = "none"', "auth", Auth()),
    ],
)
def test_what_a_key_may_hold(here: Workplace, line: str, field: str, value: object) -> None:
    here.add_profile("good", f"{SERVER}{line}\n")
    found = getattr(profiles.load("good", here.environ), field)
    assert found == value
    assert repr(found) == repr(value)  # 2.0 and 2 are equal, and not alike


def test_problems_come_in_the_order_of_their_lines(here: Workplace) -> None:
    path = here.add_profile("bad", "x = 1\nclient.y = 2\nclient.settle = []\nserver = 1\nauth.zzz = 1\n")
    with pytest.raises(ProfileError) as told:
        profiles.load("bad", here.environ)
    places = [line.removeprefix(str(path)).split(": ")[:2] for line in told.value.message.split("\n")]
    assert places == [
        [":1:1", "x"],
        [":2:8", "client.y"],
        [":3:17", "client.settle"],
        [":4:10", "server"],
        [":5:1", "auth.method"],
        [":5:6", "auth.zzz"],
    ]


def test_every_mistake_of_a_file_is_reported_at_once(here: Workplace) -> None:
    here.add_profile("bad", 'server = "https://a/skaha/v1"\nx = 1\n[client]\ny = 2\ntimeout = "soon"\n')
    told = here.run("profile", "show", "bad", expect=2).stderr
    assert [
        key in told
        for key in ("x: unknown", "client.y: unknown", "client.timeout: expected a duration: invalid duration 'soon'")
    ] == [True] * 3


def test_without_an_account_no_choice_is_needed(here: Workplace) -> None:
    assert profiles.choose(None, here.environ).is_local


def _certificate(here: Workplace) -> dict[str, str]:
    (here.root / ".ssl").mkdir()
    (here.root / ".ssl/cadcproxy.pem").touch()
    return {}


def _written(here: Workplace) -> dict[str, str]:
    here.add_profile("mine", 'server = "https://a/skaha/v1"\n')
    return {}


def _token(here: Workplace) -> dict[str, str]:
    return {"SKAHACTL_TOKEN": "x"}


@pytest.mark.parametrize("account", [_certificate, _written, _token])
def test_whoever_has_an_account_has_to_choose(here: Workplace, account: object) -> None:
    environ = {**here.environ, **account(here)}  # type: ignore[operator]
    with pytest.raises(ProfileError, match="no profile selected") as told:
        profiles.choose(None, environ)
    assert "-p local" in (told.value.hint or "")
    assert profiles.choose("local", environ).is_local
    profiles.set_default("local", environ)
    assert profiles.choose(None, environ).is_local


def test_an_overridden_local_profile_is_not_an_account(here: Workplace) -> None:
    here.add_profile("local", "[local]\nslots = 3\n")
    profile = profiles.choose(None, here.environ)
    assert (profile.is_local, profile.local.slots, profile.client.settle) == (True, 3, 0.0)


def test_the_order_of_choice(here: Workplace) -> None:
    for name in ("one", "two", "three"):
        here.add_profile(name, f'server = "https://{name}/skaha/v1"\n')
    environ = here.environ
    profiles.set_default("one", environ)
    assert profiles.choose(None, environ).name == "one"
    environ["SKAHACTL_PROFILE"] = "two"
    assert profiles.choose(None, environ).name == "two"
    assert profiles.choose("three", environ).name == "three"


@pytest.mark.once
def test_a_warning_says_once_that_the_environment_replaces_the_server_of_a_named_profile(here: Workplace) -> None:
    here.job("a", "true")
    server = {"SKAHACTL_SERVER": "http://127.0.0.1:9/skaha/v1"}
    warning = "warning: SKAHACTL_SERVER is set, so {} means http://127.0.0.1:9/skaha/v1; unset it to use {}\n"
    for name, own in (("local", "this machine"), ("canfar", "https://ws-uv.canfar.net/skaha/v1")):
        said = here.run("diff", "a.toml", "-p", name, extra=server, expect=None).stderr
        assert said.count("SKAHACTL_SERVER") == 1
        assert warning.format(name, own) in said
    here.add_profile("same", 'server = "http://127.0.0.1:9/skaha/v1"\n')
    for words in (["-p", "same"], ["-p", "environment"], []):
        assert "SKAHACTL_SERVER" not in here.run("diff", "a.toml", *words, extra=server, expect=None).stderr


@pytest.mark.once
def test_the_server_of_the_environment_is_in_the_list_and_named_after_use(here: Workplace) -> None:
    server = {"SKAHACTL_SERVER": "http://127.0.0.1:9/skaha/v1", "SKAHACTL_PROFILE": ""}
    assert here.run("profile", "list", extra=server).stdout.splitlines()[-1].split() == (
        ["*", "environment", "http://127.0.0.1:9/skaha/v1", "none", "SKAHACTL_SERVER"]
    )
    assert here.run("profile", "use", "canfar", extra=server).stderr.splitlines()[1:] == [
        "warning: SKAHACTL_SERVER is set, so commands go to http://127.0.0.1:9/skaha/v1 until you unset it"
    ]
    assert "a server that SKAHACTL_SERVER named" in here.run("get", "-p", "environment", expect=2).stderr


@pytest.mark.once
def test_a_job_of_a_server_of_the_environment_shows_the_variable_and_can_be_deleted_with_it(here: Workplace) -> None:
    with open_ledger(here.state) as ledger:
        ledgers.add(ledger, ledgers.job("far", 1), server="http://127.0.0.1:9/skaha/v1", profile="environment")
    assert here.run("get", "jobs", "-A", "--cached").stdout.splitlines()[1].split()[:2] == ["(SKAHACTL_SERVER)", "far"]
    told = here.run("delete", "far", expect=2).stderr
    assert told.endswith("to use that: export SKAHACTL_SERVER=http://127.0.0.1:9/skaha/v1\n")


def test_the_environment_overrides(here: Workplace) -> None:
    server = {"SKAHACTL_SERVER": "https://elsewhere.example.org/skaha/v1"}
    token = {"SKAHACTL_TOKEN": "s3cret"}
    profile = profiles.choose("canfar", {**here.environ, **server, **token})
    assert (profile.name, profile.host) == ("canfar", "elsewhere.example.org")
    assert profile.auth == Auth("token", token_env="SKAHACTL_TOKEN")
    assert "s3cret" not in repr(profile)
    profile = profiles.choose("canfar", {**here.environ, "SKAHACTL_CERTIFICATE": "~/x.pem", "HOME": str(here.root)})
    assert profile.auth.method == "x509"
    assert profiles.choose(None, {**here.environ, **server}).host == "elsewhere.example.org"
    assert profiles.choose("local", {**here.environ, **token}).auth.method == "none"
    with pytest.raises(ProfileError, match="are both set; unset one of them"):
        profiles.choose("canfar", {**here.environ, **token, "SKAHACTL_CERTIFICATE": "x"})
    with pytest.raises(ProfileError, match="SKAHACTL_SERVER: it does not begin with"):
        profiles.choose("canfar", {**here.environ, "SKAHACTL_SERVER": "nonsense"})


def test_a_profile_by_path_is_found_again_by_its_name(here: Workplace) -> None:
    path = here.root / "here.toml"
    path.write_text('server = "https://a/skaha/v1"\n[auth]\nmethod = "token"\ntoken-file = "t"\n')
    profile = profiles.load(str(path), here.environ)
    assert profiles.load(profile.name, here.environ) == profile
    assert profile.auth.token_file == str(here.root / "t")
    assert "https://a/skaha/v1" in here.run("profile", "show", "here.toml").stdout
    assert "cannot be read" in here.run("profile", "show", "./none.toml", expect=2).stderr


def test_an_unknown_profile_is_reported_with_the_nearest(here: Workplace) -> None:
    assert "did you mean 'canfar'" in here.run("profile", "show", "canfra", expect=2).stderr
    assert "local, canfar" in here.run("profile", "use", "zzz", expect=2).stderr


@pytest.mark.once
def test_list_use_add_and_remove(here: Workplace) -> None:
    assert "* local" in here.run("profile", "list").stdout
    done = here.run(
        "profile", "add", "mine", "--server", "https://a.example.org/skaha/v1", "--token-env", "T", "--no-check"
    )
    assert done.stdout == ""
    text = (here.root / ".config/skahactl/profiles/mine.toml").read_text()
    assert tomllib.loads(text)["auth"] == {"method": "token", "token-env": "T"}
    assert "# [defaults.resources]" in text
    assert "mine" in here.run("profile", "use", "mine").stderr
    rows = here.data("profile", "list")["profiles"]
    assert [(row["name"], row["used"]) for row in rows] == [("local", False), ("canfar", False), ("mine", True)]
    again = here.run("profile", "add", "mine", "--server", "https://a/skaha/v1", "--auth", "none", expect=2)
    assert "there is a profile 'mine' already" in again.stderr
    here.run("profile", "remove", "mine")
    assert profiles.names(here.environ) == ("local", "canfar")
    assert profiles.default_name(here.environ) is None
    assert "built in" in here.run("profile", "remove", "canfar", expect=2).stderr


def test_paths_given_to_add_are_those_of_the_working_directory(here: Workplace) -> None:
    folder = here.root / "work"
    folder.mkdir()
    words = ["--server", "https://a/skaha/v1", "--no-check", "--ca-file", "/etc/ca.pem"]
    for name, option, given in (("a", "--token-file", "t/token"), ("b", "--certificate", "~/c.pem")):
        here.run("profile", "add", name, *words, option, given, cwd=folder)
    tables = [tomllib.loads((here.root / f".config/skahactl/profiles/{name}.toml").read_text()) for name in ("a", "b")]
    assert tables[0]["auth"]["token-file"] == "~/work/t/token"
    assert tables[1]["auth"]["certificate"] == "~/c.pem"
    assert [table["client"]["ca-file"] for table in tables] == ["/etc/ca.pem"] * 2


def test_a_list_is_reported_even_if_a_file_is_wrong(here: Workplace) -> None:
    here.add_profile("bad", "x = 1\n")
    out = here.run("profile", "list").stdout
    assert "canfar" in out
    assert "x: unknown key" in out


def test_add_writes_nothing_if_no_server_answers(here: Workplace) -> None:
    done = here.run("profile", "add", "x", "--server", "http://127.0.0.1:9/skaha/v1", "--auth", "none", expect=4)
    assert "--no-check" in done.stderr
    assert list((here.root / ".config").rglob("x*")) == []
    assert "needs --server" in here.run("profile", "add", "x", expect=2).stderr


def test_a_mistake_of_add_names_its_option(here: Workplace) -> None:
    words = ["profile", "add", "x", "--server", "https://a.example.org/skaha/v1", "--auth", "none", "--no-check"]
    said = here.run(*words, "--shared", "logs", expect=2).stderr
    assert said == "error: --shared: expected an absolute path, as the container sees it\n"
    said = here.run(*words, "--storage-root", "/arc", expect=2).stderr
    assert said == "error: profile x: storage: root and url belong together\n"


def test_add_asks_on_a_terminal(here: Workplace) -> None:
    terminal = here.at_a_terminal("profile", "add", "mine", "--no-check")
    for question, answer in (
        ("Server (https://HOST/skaha/v1): ", "https://a.example.org/skaha/v1"),
        ("Log in with: x509, token or none [x509]: ", "token"),
        ("File that holds the token: ", "~/token"),
        ("Registry of images that name none [none]: ", ""),
        ("Shared storage as sessions see it, such as /arc [none]: ", ""),
    ):
        terminal.answer(question, answer)
    assert terminal.ended() == 0
    profile = profiles.load("mine", here.environ)
    assert profile.server == "https://a.example.org/skaha/v1"
    assert profile.auth == Auth("token", token_file=str(here.root / "token"))


def test_check_says_what_holds(here: Workplace) -> None:
    out = here.run("profile", "check", "local").stdout
    assert [line.split()[0] for line in out.splitlines()] == [
        "profile",
        "server",
        "availability",
        "credentials",
        "user",
        "resources",
        "storage",
        "encoding",
    ]
    assert "the certificate does not exist" in here.run("profile", "check", "canfar", expect=3).stderr


def test_no_profile_file_is_readable_by_others_than_it_should(here: Workplace) -> None:
    """A profile holds no secret; it may be read like any other configuration."""
    here.run("profile", "add", "mine", "--server", "https://a/skaha/v1", "--auth", "none", "--no-check")
    mode = (here.root / ".config/skahactl/profiles/mine.toml").stat().st_mode
    assert stat.S_IMODE(mode) & 0o022 == 0
