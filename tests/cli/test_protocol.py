import json

from search.published.figures import figures, protocols


def test_every_figure_and_every_script_is_shown(wavemix):
    shown = wavemix("audit", "--protocol").out
    words = " ".join(shown.split())
    assert "not a class-mean IoU" in words and "no training script published" in words
    assert "83.04 %" in words and "33.08 dB" in words and "drawn without a seed" in words
    assert all(name in words for name in protocols())
    assert all(figure.data.split()[0] in words for figure in figures())


def test_the_same_for_a_program(wavemix):
    told = json.loads(wavemix("audit", "--protocol", "--json").out)
    assert len(told["figures"]) == len(figures()) and set(told["scripts"]) == set(protocols())
    assert told["figures"][0]["flags"] == list(figures()[0].flags)


def test_it_is_an_audit_of_its_own(wavemix):
    assert "--protocol" in wavemix("audit", "--protocol", "--saved-models", code=2).err
