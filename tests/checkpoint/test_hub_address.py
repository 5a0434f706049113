"""Test addresses on the Hugging Face hub and the choice of a repository's files."""

from __future__ import annotations

import pytest

from samjax.checkpoint.hub_address import (
    HubAddress,
    choose_files,
    intended_address,
    parse_hub_address,
)
from samjax.errors import CheckpointError

COMMIT = "de8488bca37bb1d4fb190f612c516126d739ce3b"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://owner/name", ("owner/name", None, None)),
        ("hf://owner/name/", ("owner/name", None, None)),
        ("hf://owner/name@v1.0", ("owner/name", "v1.0", None)),
        (f"hf://owner/name@{COMMIT}", ("owner/name", COMMIT, None)),
        (f"hf://owner/name@{COMMIT.upper()}/a.pth", ("owner/name", COMMIT, "a.pth")),
        ("hf://o/n/sam_hq_vit_b.pth", ("o/n", None, "sam_hq_vit_b.pth")),
        ("hf://o/n/below/it.pth", ("o/n", None, "below/it.pth")),
        ("hf://o/n@dev/below/it.pth", ("o/n", "dev", "below/it.pth")),
        ("hf://o/n@refs/pr/4", ("o/n", "refs/pr/4", None)),
        ("hf://o/n@refs/pr/4/it.pth", ("o/n", "refs/pr/4", "it.pth")),
        ("hf://o/n@feature%2Fx/it.pth", ("o/n", "feature/x", "it.pth")),
        ("hf://o/n/a@b.pth", ("o/n", None, "a@b.pth")),
    ],
)
def test_addresses(text, parts):
    address = parse_hub_address(text)
    assert (address.repository, address.revision, address.file) == parts
    assert parse_hub_address(str(address)) == address


def test_a_commit_is_told_from_a_branch():
    assert parse_hub_address(f"hf://o/n@{COMMIT}").commit == COMMIT
    assert parse_hub_address("hf://o/n@main").commit is None
    assert parse_hub_address(f"hf://o/n@{COMMIT[:7]}").commit is None
    assert str(parse_hub_address("hf://o/n/f.pth").at(COMMIT)) == f"hf://o/n@{COMMIT}/f.pth"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hf://", "no owner and name"),
        ("hf://name", "no owner and name"),
        ("hf:///name", "no owner and name"),
        ("hf://owner/", "is no owner/name"),
        ("hf://owner/na me", "is no owner/name"),
        ("hf://owner/a--b", "is no owner/name"),
        ("hf://../etc", "is no owner/name"),
        ("hf://owner/name@", "nothing after the @"),
        ("hf://owner/name@a b", "is no branch"),
        ("hf://owner/name@..%2F..%2Fx", "is no branch"),
        ("hf://owner/name/../x.pth", "is no name of a file"),
        ("hf://owner/name//x.pth", "is no name of a file"),
    ],
)
def test_what_is_no_address(text, why):
    with pytest.raises(CheckpointError, match=why) as caught:
        parse_hub_address(text)
    assert str(caught.value).startswith(f"{text}: ")
    assert "hf://owner/name" in str(caught.value)


ADDRESS = HubAddress("owner/name")
SHARDS = [
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
]


@pytest.mark.parametrize(
    ("listed", "weights", "read"),
    [
        (["model.safetensors", "pytorch_model.bin", "config.json"], ["model.safetensors"], ""),
        (["pytorch_model.bin", "config.json", "optimizer.pt"], ["pytorch_model.bin"], ""),
        (
            [*SHARDS, "pytorch_model.bin"],
            SHARDS,
            "",
        ),
        (
            ["adapter_config.json", "adapter_model.safetensors", "model.safetensors"],
            ["adapter_model.safetensors"],
            "",
        ),
        (["sam.pth", "README.md"], ["sam.pth"], "sam.pth"),
        (["sam.pth", "sam.safetensors"], ["sam.safetensors"], "sam.safetensors"),
        (["sam.pth", "training_args.bin"], ["sam.pth"], "sam.pth"),
    ],
)
def test_the_files_that_are_fetched(listed, weights, read):
    chosen = choose_files(listed, ADDRESS)
    assert sorted(chosen.weights) == sorted(weights)
    assert chosen.read == read
    assert set(chosen.names) <= set(listed)


def test_configuration_and_card_come_along():
    besides = ("config.json", "preprocessor_config.json", "trainer_state.json", "README.md")
    chosen = choose_files([*besides, "model.safetensors", "loss.png"], ADDRESS)
    assert set(chosen.besides) == set(besides)


def test_a_named_file_and_a_named_folder():
    listed = ["a.pth", "b.pth", "README.md", "hf/config.json", "hf/model.safetensors"]
    chosen = choose_files(listed, HubAddress("o/n", None, "b.pth"))
    assert (chosen.read, chosen.names) == ("b.pth", ("b.pth", "README.md"))
    chosen = choose_files(listed, HubAddress("o/n", None, "hf"))
    assert (chosen.read, chosen.weights) == ("hf", ("hf/model.safetensors",))
    assert "hf/config.json" in chosen.besides


@pytest.mark.parametrize(
    ("listed", "file", "why"),
    [
        (["a.pth", "b.pth"], None, r"several .* \(a.pth, b.pth\): name one, such as hf://o.*/a.pth"),
        (["README.md"], None, "no PyTorch or safetensors weights"),
        (["tf_model.h5"], None, r"no PyTorch or safetensors weights in the repository \(tf_model"),
        (["a.pth", "config.json"], "config.json", r"no file of weights \(a.pth\): name one"),
        (["README.md"], "README.md", "no file of weights: name one"),
        (["a.pth"], "c.pth", r"no such file in the repository \(a.pth\)"),
    ],
)  # fmt: skip
def test_nothing_to_choose(listed, file, why):
    with pytest.raises(CheckpointError, match=why):
        choose_files(listed, HubAddress("owner/name", None, file))


@pytest.mark.parametrize("revision", ["%2Fetc%2Fx", "a:b", "a~1", "a^", "a*", "a%5Bb"])
def test_what_git_allows_in_no_name_is_no_revision(revision):
    with pytest.raises(CheckpointError, match="is no branch, tag or commit"):
        parse_hub_address(f"hf://owner/name@{revision}")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hf:/o/n", "hf://o/n"),
        ("hf:o/n@v1/a.pth", "hf://o/n@v1/a.pth"),
        ("hf:///o/n", "hf://o/n"),
        ("HF://o/n", "hf://o/n"),
        ("https://huggingface.co/o/n", "hf://o/n"),
        ("https:/huggingface.co/o/n/", "hf://o/n"),
        ("huggingface.co/o/n/tree/main", "hf://o/n"),
        ("https://huggingface.co/o/n/blob/main/below/a.pth", "hf://o/n/below/a.pth"),
        ("https://huggingface.co/o/n/resolve/v1/a.pth?download=true", "hf://o/n@v1/a.pth"),
        ("https://huggingface.co/o/n/tree/feature%2Fx", "hf://o/n@feature%2Fx"),
        (f"https://huggingface.co/o/n/commit/{COMMIT}", f"hf://o/n@{COMMIT}"),
        ("https://example.org/o/n", None),
        ("https://huggingface.co/o", None),
        ("https://huggingface.co/o/n/discussions/1", None),
        ("hf:", None),
        ("hf:/n", None),
        ("o/n", None),
        ("", None),
    ],
)
def test_what_was_meant(text, meant):
    assert intended_address(text) == meant
