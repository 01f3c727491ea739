from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from macrec_core.artifacts import read_artifact
from macrec_core.encoders import embedded, encode_images, image, image_models
from macrec_core.encoders.lite0 import preprocessed
from macrec_core.errors import MacrecError
from macrec_core.params.data import EfficientNetEncoder, TimmEncoder
from macrec_core.runtime import Runtime
from macrec_core.schemas import IMAGES

SMALL = "test_vit.r160_in1k"


def lite0(batch_size=4):
    return EfficientNetEncoder(encoder="efficientnet_lite0", batch_size=batch_size)


def small_timm(weights, **changes):
    values = {
        "encoder": "timm",
        "model": SMALL,
        "weights": str(weights),
        "dtype": "float32",
        "batch_size": 2,
    }
    return TimmEncoder(**values | changes)


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(timm.create_model(SMALL, pretrained=False).state_dict(), path)
    return path


def test_efficientnet_embeds_every_image_the_same_under_any_batch_size(
    make_images, noise_pictures, runtime, scratch
):
    images = make_images(noise_pictures)
    one = encode_images(images, lite0(1), None, runtime, scratch)
    many = encode_images(images, lite0(4), None, runtime, scratch)
    assert one.vectors.shape == (5, 1280)
    assert one.vectors.dtype == np.float32
    np.testing.assert_allclose(one.vectors, many.vectors, atol=1e-4)
    assert one.info["weights_sha256"] == embedded.EFFICIENTNET_LITE0.sha256


@pytest.fixture(scope="module")
def timm_lite0():
    """timm's network with the same weights, whose tensors have the same order; with its head."""
    tensors = torch.load(embedded.locate(embedded.EFFICIENTNET_LITE0), weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    names = list(model.state_dict())
    assert len(names) == len(tensors) == 296
    model.load_state_dict(dict(zip(names, tensors.values(), strict=True)))
    return model


def test_efficientnet_recognises_a_photograph(timm_lite0):
    """With the wrong order of tensors or the wrong input scale, espresso is not found."""
    from skimage.data import coffee

    with torch.inference_mode():
        chances = timm_lite0(preprocessed(Image.fromarray(coffee()))[None]).softmax(1)[0]
    assert timm.data.ImageNetInfo().index_to_description(int(chances.argmax())) == "espresso"
    assert chances.max() > 0.9


@pytest.mark.parametrize("size", [(96, 96), (48, 64), (177, 301), (500, 224), (33, 1000)])
def test_efficientnet_equals_timms(size, timm_lite0):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    config = timm.data.resolve_model_data_config(timm_lite0)
    expected_input = timm.data.create_transform(**config, is_training=False)(picture)
    assert torch.equal(preprocessed(picture), expected_input)
    shown = {key: str(value) for key, value in config.items()}
    ours = image_models.load_efficientnet_lite0()
    assert ours.info["preprocessing"] == shown
    with torch.inference_mode():
        features = timm_lite0.forward_features(expected_input[None])
        expected = timm_lite0.forward_head(features, pre_logits=True)
        found = ours.network(expected_input[None])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_a_timm_model_gives_its_pooled_features(
    small_weights, make_images, noise_pictures, runtime, scratch
):
    images = make_images(noise_pictures)
    encoded = encode_images(images, small_timm(small_weights), None, runtime, scratch)
    model = timm.create_model(SMALL, pretrained=False, checkpoint_path=str(small_weights)).eval()
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    # The stored JPEG is what was seen, not the picture before compression.
    from io import BytesIO

    table = read_artifact(images / "images.parquet", IMAGES)
    data = table.column("image")[2].as_py()
    with torch.inference_mode():
        features = model.forward_features(transform(Image.open(BytesIO(data)))[None])
        expected = model.forward_head(features, pre_logits=True)[0]
    np.testing.assert_allclose(encoded.vectors[2], expected, atol=1e-5)


def test_a_pytorch_file_equals_a_safetensors_file(
    small_weights, tmp_path, make_images, noise_pictures, runtime, scratch
):
    from safetensors.torch import load_file

    torch.save(load_file(small_weights), tmp_path / "model.pth")
    images = make_images(noise_pictures)
    one = encode_images(images, small_timm(small_weights), None, runtime, scratch)
    other = encode_images(images, small_timm(tmp_path / "model.pth"), None, runtime, scratch)
    assert np.array_equal(one.vectors, other.vectors)
    assert one.info["weights_sha256"] == other.info["weights_sha256"]


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(MacrecError, match=r"evil\.pth': is no weights file"):
        image_models.load_timm(SMALL, str(tmp_path / "evil.pth"), "float32")
    assert not (tmp_path / "made").exists()


def test_weights_of_another_model_are_an_error_not_a_random_network(small_weights, tmp_path):
    from safetensors.torch import load_file

    tensors = load_file(small_weights)
    tensors.pop(next(name for name in tensors if name.startswith("blocks.1")))
    save_file(tensors, tmp_path / "partial.safetensors")
    with pytest.raises(MacrecError, match=r"cannot be loaded.*Missing key") as caught:
        image_models.load_timm(SMALL, str(tmp_path / "partial.safetensors"), "float32")
    assert "\n" not in str(caught.value)


def test_an_absent_weights_file_and_an_unknown_model_are_errors(tmp_path):
    with pytest.raises(MacrecError, match=r"absent\.pth': no such file"):
        image_models.load_timm(SMALL, str(tmp_path / "absent.pth"), "float32")
    with pytest.raises(MacrecError, match=r"'no_such_model'.*correct the name"):
        image_models.load_timm("no_such_model", None, "float32")


def test_an_unreachable_hub_is_one_line_with_a_remedy(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MacrecError, match=r"give the local file as embed\.image\.weights"):
        image_models.load_timm("resnet10t.c3_in1k", None, "float32")


def test_only_clip_towers_keep_their_head():
    kept = [name for name in timm.list_pretrained() if image_models.has_projection(name)]
    widths = {timm.get_pretrained_cfg(name).num_classes for name in kept}
    # 1000, 11821, 21841, ... would be ImageNet's classes; 0 is a tower without a head.
    assert widths <= {0, 384, 512, 640, 768, 1024, 1152, 1280}
    assert "vit_large_patch14_clip_224.openai" in kept
    assert "vit_large_patch14_clip_224.openai_ft_in1k" not in kept


def test_clip_vit_l14_gives_its_768_projected_features(monkeypatch):
    real = timm.create_model

    def on_meta(name, pretrained):
        with torch.device("meta"):  # 300 million weights, none of them needed here
            return real(name, pretrained=False)

    monkeypatch.setattr(timm, "create_model", on_meta)
    monkeypatch.setattr(image_models, "weights_sha256", lambda model: "")
    loaded = image_models.load_timm("vit_large_patch14_clip_224.openai", None, "float32")
    assert loaded.network.head.out_features == 768
    assert loaded.info["preprocessing"]["mean"].startswith("(0.48145466")
    with torch.device("meta"):
        assert loaded.network(torch.zeros(2, 3, 224, 224)).shape == (2, 768)


def test_an_item_without_an_image_is_an_error(make_images, noise_pictures, runtime, scratch):
    images = make_images(noise_pictures[:3], [0, 2, 4], count=5)
    with pytest.raises(MacrecError, match=r"2 of 5 items have no image \(first: item 1\)"):
        encode_images(images, lite0(), None, runtime, scratch)


def test_an_image_of_no_item_is_an_error(make_images, noise_pictures, runtime, scratch):
    with pytest.raises(MacrecError, match="5 images for 4 items"):
        encode_images(make_images(noise_pictures, count=4), lite0(), None, runtime, scratch)


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\xff\xd8\xff\xe0 cut"])
def test_an_unreadable_image_names_its_item(data, make_images, noise_pictures, runtime, scratch):
    images = make_images([noise_pictures[0], data])
    with pytest.raises(MacrecError, match=r"image of item 1 \(image-1\.jpg\) cannot be decoded"):
        encode_images(images, lite0(), None, runtime, scratch)


def test_precision_follows_the_runtime(make_images, noise_pictures, runtime, tmp_path):
    images, half = make_images(noise_pictures), Runtime(torch.device("cpu"), torch.bfloat16)
    full = encode_images(images, lite0(), None, runtime, tmp_path / "a").vectors
    encoded = encode_images(images, lite0(), None, half, tmp_path / "b")
    auto = encoded.vectors
    assert auto.dtype == np.float32
    assert encoded.info["precision"] == "bfloat16"
    assert not np.array_equal(full, auto)
    cosines = (auto * full).sum(1) / np.linalg.norm(auto, axis=1) / np.linalg.norm(full, axis=1)
    assert cosines.min() > 0.99


def test_running_out_of_memory_names_the_parameter(
    make_images, noise_pictures, runtime, scratch, monkeypatch
):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(image, "features", full)
    with pytest.raises(MacrecError, match=r"embed\.image\.batch_size=4"):
        encode_images(make_images(noise_pictures), lite0(), None, runtime, scratch)
