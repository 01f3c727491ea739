from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from macrec_core.encoders import embedded, encode_images
from macrec_core.encoders import image as image_encoders
from macrec_core.errors import MacrecError
from macrec_core.params import EfficientNetEncoder, TimmEncoder

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
    make_images, noise_pictures, runtime
):
    images = make_images(noise_pictures)
    one = encode_images(images, 5, lite0(1), None, runtime)
    many = encode_images(images, 5, lite0(4), None, runtime)
    assert one.vectors.shape == (5, 1280)
    assert one.vectors.dtype == np.float32
    np.testing.assert_allclose(one.vectors, many.vectors, atol=1e-4)
    assert one.info["weights_sha256"] == embedded.EFFICIENTNET_LITE0.sha256


def test_all_296_tensors_of_efficientnet_find_their_place():
    path = embedded.locate(embedded.EFFICIENTNET_LITE0)
    tensors = torch.load(path, weights_only=True)
    target = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    placed = image_encoders.in_order(tensors, target)
    assert len(placed) == 296
    assert list(placed) == list(target)
    assert torch.equal(placed["conv_stem.weight"], tensors["_conv_stem.weight"])
    assert torch.equal(placed["classifier.bias"], tensors["_fc.bias"])


def test_efficientnet_recognises_a_photograph():
    """With the wrong order of tensors or the wrong input scale, espresso is not found."""
    from skimage.data import coffee

    path = embedded.locate(embedded.EFFICIENTNET_LITE0)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    tensors = torch.load(path, weights_only=True)
    model.load_state_dict(image_encoders.in_order(tensors, model.state_dict()))
    transform = image_encoders.load_efficientnet_lite0().transform
    with torch.inference_mode():
        chances = model(transform(Image.fromarray(coffee()))[None]).softmax(1)[0]
    assert timm.data.ImageNetInfo().index_to_description(int(chances.argmax())) == "espresso"
    assert chances.max() > 0.9


def test_tensors_of_another_model_are_refused():
    target = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    with pytest.raises(MacrecError, match="1 tensors for a model of 2"):
        image_encoders.in_order({"x.weight": torch.zeros(2, 3)}, target)
    turned = {"x.bias": torch.zeros(2, 3), "x.weight": torch.zeros(2)}
    with pytest.raises(MacrecError, match=r"'x.bias' \(2, 3\) does not fit 'a.weight' \(2, 3\)"):
        image_encoders.in_order(turned, target)
    wide = {"x.weight": torch.zeros(2, 4), "x.bias": torch.zeros(2)}
    with pytest.raises(MacrecError, match=r"\(2, 4\) does not fit 'a.weight' \(2, 3\)"):
        image_encoders.in_order(wide, target)


def test_a_timm_model_gives_its_pooled_features(
    small_weights, make_images, noise_pictures, runtime
):
    encoded = encode_images(
        make_images(noise_pictures), 5, small_timm(small_weights), None, runtime
    )
    model = timm.create_model(SMALL, pretrained=False, checkpoint_path=str(small_weights)).eval()
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    # The stored JPEG is what was seen, not the picture before compression.
    from io import BytesIO

    data = make_images(noise_pictures).column("image")[2].as_py()
    with torch.inference_mode():
        features = model.forward_features(transform(Image.open(BytesIO(data)))[None])
        expected = model.forward_head(features, pre_logits=True)[0]
    np.testing.assert_allclose(encoded.vectors[2], expected, atol=1e-5)


def test_a_pytorch_file_equals_a_safetensors_file(
    small_weights, tmp_path, make_images, noise_pictures, runtime
):
    from safetensors.torch import load_file

    torch.save(load_file(small_weights), tmp_path / "model.pth")
    images = make_images(noise_pictures)
    one = encode_images(images, 5, small_timm(small_weights), None, runtime)
    other = encode_images(images, 5, small_timm(tmp_path / "model.pth"), None, runtime)
    assert np.array_equal(one.vectors, other.vectors)
    assert one.info["weights_sha256"] == other.info["weights_sha256"]


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(MacrecError, match=r"evil\.pth': is no weights file"):
        image_encoders.load_timm(SMALL, str(tmp_path / "evil.pth"), "float32")
    assert not (tmp_path / "made").exists()


def test_weights_of_another_model_are_an_error_not_a_random_network(small_weights, tmp_path):
    from safetensors.torch import load_file

    tensors = load_file(small_weights)
    tensors.pop(next(name for name in tensors if name.startswith("blocks.1")))
    save_file(tensors, tmp_path / "partial.safetensors")
    with pytest.raises(MacrecError, match=r"cannot be loaded.*Missing key") as caught:
        image_encoders.load_timm(SMALL, str(tmp_path / "partial.safetensors"), "float32")
    assert "\n" not in str(caught.value)


def test_an_absent_weights_file_and_an_unknown_model_are_errors(tmp_path):
    with pytest.raises(MacrecError, match=r"absent\.pth': no such file"):
        image_encoders.load_timm(SMALL, str(tmp_path / "absent.pth"), "float32")
    with pytest.raises(MacrecError, match=r"'no_such_model'.*correct the name"):
        image_encoders.load_timm("no_such_model", None, "float32")


def test_an_unreachable_hub_is_one_line_with_a_remedy(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MacrecError, match=r"give the local file as embed\.image\.weights"):
        image_encoders.load_timm("resnet10t.c3_in1k", None, "float32")


def test_only_clip_towers_keep_their_head():
    kept = [name for name in timm.list_pretrained() if image_encoders.has_projection(name)]
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
    monkeypatch.setattr(image_encoders, "weights_sha256", lambda model: "")
    loaded = image_encoders.load_timm("vit_large_patch14_clip_224.openai", None, "float32")
    assert loaded.model.head.out_features == 768
    assert loaded.info["preprocessing"]["mean"].startswith("(0.48145466")
    with torch.device("meta"):
        assert loaded.model(torch.zeros(2, 3, 224, 224)).shape == (2, 768)


def test_an_item_without_an_image_is_an_error(make_images, noise_pictures, runtime):
    images = make_images(noise_pictures[:3], [0, 2, 4])
    with pytest.raises(MacrecError, match=r"2 of 5 items have no image \(first: item 1\)"):
        encode_images(images, 5, lite0(), None, runtime)


def test_an_image_of_no_item_is_an_error(make_images, noise_pictures, runtime):
    with pytest.raises(MacrecError, match="5 images for 4 items"):
        encode_images(make_images(noise_pictures), 4, lite0(), None, runtime)


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\xff\xd8\xff\xe0 cut"])
def test_an_unreadable_image_names_its_item(data, make_images, noise_pictures, runtime):
    images = make_images([noise_pictures[0], data])
    with pytest.raises(MacrecError, match=r"image of item 1 \(image-1\.jpg\) cannot be decoded"):
        encode_images(images, 2, lite0(), None, runtime)
