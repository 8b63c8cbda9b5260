from vjepa_mlflow.video import View, draw_view

DIGEST = "5e" * 32


def draw(**changes: object) -> View:
    return draw_view(**({"seed": 0, "sample": DIGEST, "number": 0, "horizontal_flip": True} | changes))  # type: ignore[arg-type]


def test_the_same_arguments_give_the_same_view() -> None:
    assert draw() == draw()


def test_seed_sample_and_number_each_change_the_view() -> None:
    views = {draw(), draw(seed=1), draw(sample="5f" * 32), draw(number=1)}
    assert len(views) == 4


def test_flips_happen_only_when_asked_for_and_then_to_about_half() -> None:
    flipped = [draw(number=number).flip for number in range(200)]
    assert 70 < sum(flipped) < 130
    assert not any(draw(number=number, horizontal_flip=False).flip for number in range(200))


def test_a_flip_changes_nothing_else() -> None:
    for number in range(10):
        asked, unasked = draw(number=number), draw(number=number, horizontal_flip=False)
        assert (asked.position, asked.crop_x, asked.crop_y) == (unasked.position, unasked.crop_x, unasked.crop_y)
