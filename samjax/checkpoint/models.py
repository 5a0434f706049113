"""Name the public SAM checkpoints: address, size, hash, licence, preset and purpose of each.

Nothing here is guessed. A hash or commit that the publisher itself does not state, but others who
use the file do, says so (``quoted_from``). Where nobody does the table has none, and the first
download decides: see ``samjax.checkpoint.sources``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from samjax.checkpoint.download import BASE_URL, OFFICIAL
from samjax.checkpoint.hub_address import SCHEME

# Repositories whose image processor is not the one that their model was trained with: MedSAM's is
# SAM's stock processor, its own code (github.com/bowang-lab/MedSAM, MedSAM_Inference.py) stretches
# images to 1024 x 1024 px and scales them to 0 to 1.
PRESETS_BY_REPOSITORY: Mapping[str, str] = MappingProxyType({"wanglab/medsam-vit-base": "medsam"})


@dataclass(frozen=True)
class PublicModel:
    """A published checkpoint under the name that ``samjax.load`` takes.

    Attributes:
        name: the name.
        address: a URL of a file, or hf://owner/name[@commit][/file].
        purpose: what the model is for, in one line.
        page: web page of the project that published it.
        licence: SPDX name of the weights' licence; "" where the page has to be asked.
        preset: name of its preprocessing.
        size: bytes of the file, 0 where not published.
        sha256: published or quoted sha256, "" where there is none.
        xxh128: published xxh128 (no cryptographic hash), "" where there is none.
        file: name of the file in the cache, "" for addresses of the hub.
        quoted_from: who states the sha256, or the commit of the address, where the publisher of
            the weights does not; "" where the publisher does, or nobody.
    """

    name: str
    address: str
    purpose: str
    page: str
    licence: str = ""
    preset: str = "sam"
    size: int = 0
    sha256: str = ""
    xxh128: str = ""
    file: str = ""
    quoted_from: str = ""

    @property
    def on_hub(self) -> bool:
        """Return whether the model lies on the Hugging Face hub."""
        return self.address.startswith(SCHEME)

    @property
    def pinned_by(self) -> str:
        """Return what fixes the content: "sha256", "commit" or "first download".

        "quoted sha256" and "quoted commit" are not the publisher's own statements.
        """
        quoted = "quoted " if self.quoted_from else ""
        if self.sha256:
            return f"{quoted}sha256"
        return f"{quoted}commit" if self.on_hub and "@" in self.address else "first download"

    @property
    def hash_words(self) -> str:
        """Return words for the sha256 in errors."""
        if self.quoted_from:
            return f"the one quoted from {self.quoted_from}"
        return "the published one"


_SAM = "https://github.com/facebookresearch/segment-anything"
_MICRO_SAM = (
    "https://github.com/computational-cell-analytics/micro-sam/blob/master/doc/finetuned_models.md"
)
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/"
_OWNCLOUD = "https://owncloud.gwdg.de/index.php/s/"
_MOBILE_SAM = "https://github.com/ChaoningZhang/MobileSAM"
# Who states what the publishers do not. micro-sam's file names the addresses of the official
# weights and of MobileSAM with their sha256. The commits of main stand in the settings of many
# independent projects that load these repositories, and so do the sha256 of SAM-HQ's files.
_UTIL = "micro_sam/util.py"
_OTHERS = "several projects that use it"
_LM = "cells and nuclei in light microscopy"
_EM = "mitochondria and nuclei in electron microscopy"


def _official() -> Iterable[PublicModel]:
    """Yield the models of the official README, whose sizes and hashes download.OFFICIAL has.

    The README publishes the addresses; in the names of the files are the first digits of an MD5.
    """
    size_words = {"vit_b": "base", "vit_l": "large", "vit_h": "huge"}
    for name, remote in OFFICIAL.items():
        yield PublicModel(
            name,
            BASE_URL + remote.name,
            f"SAM, official weights, {size_words[name]} image encoder",
            _SAM,
            licence="Apache-2.0",
            size=remote.size,
            sha256=remote.sha256,
            file=remote.name,
            quoted_from=_UTIL,
        )


def _micro_sam_v1(name: str, record: int, file: str, sha256: str, purpose: str) -> PublicModel:
    """Return a model of micro-sam's first release; hashes: micro_sam/util.py at 0ca2230."""
    return PublicModel(
        f"{name}_v1",
        f"https://zenodo.org/records/{record}/files/{file}",
        f"micro-sam v1: {purpose} (the current one is better; for older results)",
        f"https://zenodo.org/records/{record}",
        preset="microsam",
        sha256=sha256,
        file=f"microsam_v1_{file}",
    )


def _micro_sam(name: str, address: str, xxh128: str, purpose: str) -> PublicModel:
    """Return a current model of micro-sam; addresses and xxh128: micro_sam/util.py at 3acdcd7."""
    return PublicModel(
        name,
        address,
        f"micro-sam: {purpose}",
        _MICRO_SAM,
        preset="microsam",
        xxh128=xxh128,
        file=f"microsam_{name}.pt",
    )


def _hub(
    name: str, address: str, purpose: str, *, preset: str = "sam", sha256: str = ""
) -> PublicModel:
    """Return a model on the Hugging Face hub, whose card says Apache-2.0."""
    page = "https://huggingface.co/" + "/".join(
        address.removeprefix(SCHEME).partition("@")[0].split("/")[:2]
    )
    quoted = _OTHERS if sha256 or "@" in address else ""
    return PublicModel(
        name,
        SCHEME + address,
        purpose,
        page,
        "Apache-2.0",
        preset,
        sha256=sha256,
        quoted_from=quoted,
    )


def _all() -> Iterable[PublicModel]:
    yield from _official()
    # Address: the file in the project's repository, at a commit. The project states no hash.
    yield PublicModel(
        "mobile_sam",
        f"{_MOBILE_SAM}/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        "MobileSAM: TinyViT image encoder, for weak machines",
        _MOBILE_SAM,
        licence="Apache-2.0",
        size=40_728_226,
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        file="mobile_sam.pt",
        quoted_from=_UTIL,
    )
    # Current micro-sam: xxh128 is all that it publishes.
    for name, part, xxh128, purpose in (
        (
            "vit_t_lm",
            "faithful-chicken/1.1/files/vit_t.pt",
            "72ec5074774761a6e5c05a08942f981e",
            _LM,
        ),
        ("vit_b_lm", "diplomatic-bug/1.2/files/vit_b.pt", "fe9252a29f3f4ea53c15a06de471e186", _LM),
        ("vit_l_lm", "idealistic-rat/1.2/files/vit_l.pt", "017f20677997d628426dec80a8018f9d", _LM),
        (
            "vit_t_em_organelles",
            "greedy-whale/1/files/vit_t.pt",
            "253474720c497cce605e57c9b1d18fd9",
            _EM,
        ),
        (
            "vit_b_em_organelles",
            "noisy-ox/1.2/files/vit_b.pt",
            "f3bf2ed83d691456bae2c3f9a05fb438",
            _EM,
        ),
        (
            "vit_l_em_organelles",
            "humorous-crab/1.2/files/vit_l.pt",
            "810b084b6e51acdbf760a993d8619f2d",
            _EM,
        ),
    ):
        yield _micro_sam(name, _BIOIMAGE + part, xxh128, purpose)
    for name, part, xxh128, purpose in (
        ("vit_b_histopathology", "sBB4H8CTmIoBZsQ", "ffd1a2cd84570458b257bd95fdd8f974", "PathoSAM"),
        ("vit_l_histopathology", "IZgnn1cpBq2PHod", "b591833c89754271023e901281dee3f2", "PathoSAM"),
        ("vit_h_histopathology", "L7AcvVz7DoWJ2RZ", "bd1856dafc156a43fb3aa705f1a6e92e", "PathoSAM"),
    ):
        yield _micro_sam(
            name, f"{_OWNCLOUD}{part}/download", xxh128, f"{purpose}, nuclei in histopathology"
        )
    yield _micro_sam(
        "vit_b_medical_imaging",
        f"{_OWNCLOUD}f5Ol4FrjPQWfjUF/download",
        "40169f1e3c03a4b67bff58249c176d92",
        "MedicoSAM, medical images",
    )
    yield _micro_sam_v1(
        "vit_b_lm",
        10524791,
        "vit_b_lm.pth",
        "e8f5feb1ad837a7507935409c7f83f7c8af11c6e39cfe3df03f8d3bd4a358449",
        _LM,
    )
    yield _micro_sam_v1(
        "vit_b_em_organelles",
        10524828,
        "vit_b_em_organelles.pth",
        "8fabbe38a427a0c91bbe6518a5c0f103f36b73e6ee6c86fbacd32b4fc66294b4",
        _EM,
    )
    yield _micro_sam_v1(
        "vit_b_em_boundaries",
        10524894,
        "vit_b_em_boundaries.pth",
        "d87348b2adef30ab427fb787d458643300eb30624a0e808bf36af21764705f4f",
        "cells and neurites by their boundaries in electron microscopy",
    )
    # The commit of main, a .bin only; safetensors wait in a pull request.
    yield _hub(
        "medsam",
        "wanglab/medsam-vit-base@de8488bca37bb1d4fb190f612c516126d739ce3b",
        "MedSAM: medical images, prompted by boxes",
        preset="medsam",
    )
    # Commits of main. The hub serves no other content under a commit's name, and its sha256 of each
    # file of weights is checked after the download.
    for size, commit in (
        ("base", "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f"),
        ("large", "6851e0441005b0fb96f2cc4dfac472f3d1b14af1"),
        ("huge", "87aecf0df4ce6b30cd7de76e87673c49644bdf67"),
    ):
        yield _hub(
            f"sam-vit-{size}",
            f"facebook/sam-vit-{size}@{commit}",
            f"SAM, official weights as transformers has them, {size} image encoder",
        )
    # No commit is stated for these anywhere: the first download pins the commit and the sha256.
    for percent in (50, 77):
        yield _hub(
            f"slimsam_{percent}",
            f"Zigeng/SlimSAM-uniform-{percent}",
            f"SlimSAM: ViT-B pruned by {percent} %",
        )
    # Addresses: the project's repository on the hub. SAM-HQ states no hashes; others quote two
    # (vit_h: refiners' conversion script among them).
    for size, sha256 in (
        ("vit_tiny", "0f32c075ccdd870ae54db2f7630e7a0878ede5a2b06d05d6fe02c65a82fb7196"),
        ("vit_b", ""),
        ("vit_l", ""),
        ("vit_h", "a7ac14a085326d9fa6199c8c698c4f0e7280afdbb974d2c4660ec60877b45e35"),
    ):
        yield _hub(
            f"sam_hq_{size}",
            f"lkeab/hq-sam/sam_hq_{size}.pth",
            f"SAM-HQ: finer borders, {size.replace('_', '-')} image encoder",
            sha256=sha256,
        )


MODELS: Mapping[str, PublicModel] = MappingProxyType({model.name: model for model in _all()})
