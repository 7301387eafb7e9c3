"""Publishing, against a hub on the loopback interface: one commit or nothing, and clear words for every refusal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hydraudio.share.hub import HubError
from hydraudio.share.upload import publish
from hydraudio.share.validate import fetch_copy


@pytest.fixture
def other_folder(model_folder: Path, tmp_path: Path) -> Path:
    """Another model."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "other"))
    (folder / "config.json").write_text((folder / "config.json").read_text().replace('"epoch": 3', '"epoch": 4'))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def on_hub(hub, name="me/model"):
    return {name: data for name, data in hub.repos[name].files.items() if name != ".gitattributes"}


def commits(hub):
    return [path for method, path in hub.requests if "/commit/" in path]


def test_what_is_published_is_what_others_get(hub, model_folder, tmp_path):
    result = publish(model_folder, "me/model")
    assert result.created
    assert hub.repos["me/model"].private
    assert result.revision == hub.repos["me/model"].head
    assert on_hub(hub) == contents(model_folder)
    assert len(commits(hub)) == 1
    copy = fetch_copy("me/model", tmp_path / "copy")
    assert (copy.revision, copy.is_private) == (result.revision, True)
    assert {k: v for k, v in contents(tmp_path / "copy").items() if k != ".gitattributes"} == contents(model_folder)


def test_a_public_model_needs_no_login(hub, model_folder, as_guest, tmp_path):
    publish(model_folder, "me/model", private=False)
    publish(model_folder, "me/hidden")
    as_guest(None)
    assert fetch_copy("me/model", tmp_path / "copy").is_private is False
    with pytest.raises(HubError, match="private and you are not logged in"):
        fetch_copy("me/hidden", tmp_path / "hidden")


def test_publishing_the_same_again_changes_nothing(hub, model_folder):
    first = publish(model_folder, "me/model", private=False)
    again = publish(model_folder, "me/model", private=False, update=True)
    assert (again.changed, again.revision) == (False, first.revision)
    assert not hub.repos["me/model"].private
    assert len(commits(hub)) == 1


def test_another_model_is_only_replaced_when_asked_to(hub, model_folder, other_folder):
    first = publish(model_folder, "me/model")
    with pytest.raises(ValueError, match="--update"):
        publish(other_folder, "me/model")
    assert on_hub(hub) == contents(model_folder)
    hub.repos["me/model"].commit({**hub.repos["me/model"].files, "pytorch_model.bin": b"old"})
    result = publish(other_folder, "me/model", update=True)
    assert result.changed
    assert not result.created
    assert on_hub(hub) == contents(other_folder), "stale files are removed"
    assert first.revision in hub.repos["me/model"].commits, "older revisions stay"


def test_the_visibility_of_a_repository_is_not_changed_behind_ones_back(hub, model_folder):
    publish(model_folder, "me/model", private=False)
    with pytest.raises(ValueError, match="exists and is public, not private"):
        publish(model_folder, "me/model", private=True, update=True)


def test_a_fault_of_the_hub_is_tried_again(hub, model_folder, fault):
    hub.faults += [fault("PUT", "/lfs-storage/", 500), fault("POST", "/commit/", 503)]
    assert publish(model_folder, "me/model").created
    assert on_hub(hub) == contents(model_folder)
    assert all(not f.times for f in hub.faults)


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, model_folder, fault):
    hub.faults.append(fault("POST", "/commit/", 504, late=True))
    result = publish(model_folder, "me/model")
    assert result.revision == hub.repos["me/model"].head
    assert len(commits(hub)) == 1


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/lfs-storage/"), ("POST", "/commit/"), ("POST", "objects/batch")]
)
def test_nothing_is_left_behind_when_the_hub_keeps_failing(hub, model_folder, other_folder, fault, method, path):
    hub.faults.append(fault(method, path, 500, times=100))
    with pytest.raises(HubError, match=r"the hub failed \(500\)"):
        publish(model_folder, "me/model")
    assert hub.repos == {}, "the repository that was created is removed again"
    hub.faults.clear()
    first = publish(model_folder, "me/model")
    hub.lfs.clear()
    hub.faults.append(fault(method, path, 500, times=100))
    with pytest.raises(HubError, match="holds what it held before"):
        publish(other_folder, "me/model", update=True)
    assert hub.repos["me/model"].head == first.revision


def test_a_repository_that_cannot_be_removed_is_named(hub, model_folder, fault):
    hub.faults += [fault("POST", "/commit/", 500, times=100), fault("DELETE", "/delete", 500, times=100)]
    with pytest.raises(HubError, match="remove it by hand"):
        publish(model_folder, "me/model")


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(hub, model_folder, other_folder, monkeypatch):
    publish(model_folder, "me/model")
    original = HfApi.list_repo_files

    def commit_in_between(self, *arguments, **options):
        found = original(self, *arguments, **options)
        hub.repos["me/model"].commit({"README.md": b"theirs"})
        return found

    monkeypatch.setattr(HfApi, "list_repo_files", commit_in_between)
    with pytest.raises(HubError, match="412"):
        publish(other_folder, "me/model", update=True)
    assert on_hub(hub) == {"README.md": b"theirs"}


def test_refusals_say_what_helps(hub, model_folder, as_guest):
    publish(model_folder, "me/model")
    for token, words in (("hf_" + "guest" * 5, "403.*write access"), ("hf_wrong", "does not accept the token")):
        as_guest(token)
        with pytest.raises(HubError, match=words):
            publish(model_folder, "me/model")
    as_guest(None)
    with pytest.raises(HubError, match="wants a login"):
        publish(model_folder, "me/model")
    with pytest.raises(ValueError, match="OWNER/NAME"):
        publish(model_folder, "model")


def test_an_unreachable_hub_is_named(hub, model_folder):
    with pytest.raises(HubError, match=r"127\.0\.0\.1:9 cannot be reached"):
        publish(model_folder, "me/model", endpoint="http://127.0.0.1:9")


def test_the_token_comes_from_the_environment_and_is_never_shown(hub, model_folder, monkeypatch, caplog, capfd, fault):
    token = "hf_" + "owner" * 5
    monkeypatch.setenv("HUGGINGFACE_TOKEN", token)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    caplog.set_level("DEBUG")
    publish(model_folder, "me/model")
    assert hub.authorizations == {f"Bearer {token}"}
    hub.faults.append(fault("POST", "/commit/", 500, times=100))
    with pytest.raises(HubError) as error:
        publish(model_folder, "me/second")
    captured = capfd.readouterr()
    for text in (str(error.value), captured.out, captured.err):
        assert token not in text
    assert not [record for record in caplog.records if record.name.startswith("hydraudio") and token in record.message]


def test_a_folder_with_a_token_or_a_pickle_is_never_sent(hub, other_folder):
    (other_folder / "README.md").write_text("---\nlicense: mit\n---\nhf_" + "abcd" * 6)
    (other_folder / "optimizer.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"token.*") as error:
        publish(other_folder, "me/model")
    assert "optimizer.pt" in str(error.value)
    assert hub.requests == []


def test_a_card_that_the_hub_cannot_read_leaves_nothing_behind(hub, other_folder):
    (other_folder / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        publish(other_folder, "me/model")
    assert hub.repos == {}
