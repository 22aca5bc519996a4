import numpy as np

from ramw_fed.data.phantom.anatomy import BONES, GRADES, JOINTS, draw_anatomy


def test_bones_and_joints_come_in_the_published_order() -> None:
    assert BONES == (
        "Capitate", "DistalRadius", "DistalUlna", "Hamate", "Lunate", "Pisiform&Triquetrum", "Scaphoid", "Trapezium",
        "Trapezoid", "Metacarpal1st", "Metacarpal2nd", "Metacarpal3rd", "Metacarpal4th", "Metacarpal5th",
    )  # fmt: skip
    assert JOINTS == ("Metacarpal1st", "Trapezium", "Scaphoid", "Lunate", "DistalRadius", "DistalUlna")
    assert GRADES == (0, 1, 2, 3, 4, 5)


def test_same_seed_draws_the_same_anatomy() -> None:
    one = draw_anatomy(np.random.default_rng(3), has_arthritis=True)
    two = draw_anatomy(np.random.default_rng(3), has_arthritis=True)
    assert all(np.array_equal(one.outlines[bone], two.outlines[bone]) for bone in BONES)
    assert (one.density, one.hook, one.joint_narrowing) == (two.density, two.hook, two.joint_narrowing)


def test_patients_differ_and_stay_near_the_average_wrist() -> None:
    wrists = [draw_anatomy(np.random.default_rng(seed), has_arthritis=False) for seed in range(20)]
    capitates = np.array([wrist.outlines["Capitate"].mean(axis=0) for wrist in wrists])
    assert (capitates.std(axis=0) > 2).all()
    assert (np.abs(capitates - [297, 304]) < 45).all()
