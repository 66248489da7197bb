"""Prompt templates for class names, by kind of picture or by language. Our own wording; `{}` is where the name goes.

Those of a language are for names in it, and for models that read it. They put names where they stand as in a
dictionary: no article, and no case that a name would have to be in.
"""

from __future__ import annotations

LANGUAGES: dict[str, tuple[str, ...]] = {  # by their codes in ISO 639-1
    "ar": ("{}", "صورة {}", "صورة فوتوغرافية: {}", "في الصورة: {}"),
    "de": ("{}", "ein Foto: {}", "ein Bild: {}", "auf dem Foto: {}"),
    "es": ("{}", "una foto: {}", "una imagen: {}", "en la foto: {}"),
    "fr": ("{}", "une photo : {}", "une image : {}", "sur la photo : {}"),
    "hi": ("{}", "एक फ़ोटो: {}", "एक तस्वीर: {}", "फ़ोटो में: {}"),
    "id": ("{}", "foto {}", "gambar {}", "dalam foto: {}"),
    "it": ("{}", "una foto: {}", "un'immagine: {}", "nella foto: {}"),
    "ja": ("{}", "{}の写真", "{}の画像", "写真に写っている{}"),
    "ko": ("{}", "{} 사진", "{} 이미지", "사진 속의 {}"),
    "nl": ("{}", "een foto: {}", "een afbeelding: {}", "op de foto: {}"),
    "pl": ("{}", "zdjęcie: {}", "obraz: {}", "na zdjęciu: {}"),
    "pt": ("{}", "uma foto: {}", "uma imagem: {}", "na foto: {}"),
    "ru": ("{}", "фото: {}", "изображение: {}", "на фото: {}"),
    "tr": ("{}", "{} fotoğrafı", "{} resmi", "fotoğrafta: {}"),
    "zh": ("{}", "{}的照片", "{}的图片", "照片里的{}"),
}
TEMPLATES: dict[str, tuple[str, ...]] = {
    "simple": ("{}",),
    "photo": (
        "a photo of a {}.",
        "a photograph of the {}.",
        "a close photo of a {}.",
        "a photo of a {} from afar.",
        "a photo of a small {}.",
        "a photo of a large {}.",
        "a sharp photo of a {}.",
        "a blurred photo of a {}.",
        "a bright photo of a {}.",
        "a photo of a {} in the dark.",
        "a black and white photo of a {}.",
        "a photo of one {} among other things.",
        "a photo of many {}.",
        "part of a {} in a photo.",
        "a {} seen through a camera.",
        "a picture showing a {}.",
        "a picture of my {}.",
        "an image with a {} in it.",
        "a snapshot of a {} outdoors.",
        "a photo of a {} indoors.",
        "a drawing of a {}.",
        "a painting of the {}.",
        "a {} made of plastic.",
        "{}",
    ),
    "drawing": ("{}", "a {}", "a picture of a {}", "an image of a {}", "a drawing of a {}"),
    **LANGUAGES,
}
