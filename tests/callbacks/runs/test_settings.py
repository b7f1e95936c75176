from callbacks.runs.settings import flat


class TestFlat:
    def test_settings_lie_under_their_names(self) -> None:
        config = {"seed": 0, "data": {"batch_size": 24, "shares": [0.5, 0.5]}}
        assert dict(flat("", config)) == {"seed": 0, "data.batch_size": 24, "data.shares": "0.5, 0.5"}

    def test_a_class_is_the_value_of_what_takes_it(self) -> None:
        config = {"schedule": {"class_path": "package.Cosine", "init_args": {"warmup": 0.1}}}
        assert dict(flat("", config)) == {"schedule": "Cosine", "schedule.warmup": 0.1}

    def test_callbacks_lie_under_their_own_names(self) -> None:
        callbacks = [{"class_path": "a.First", "init_args": {"pairs": 4}}, {"class_path": "b.Second"}]
        callbacks.append({"class_path": "a.First", "init_args": {"pairs": 8}})
        assert dict(flat("callbacks", callbacks)) == {"callbacks.First.pairs": 4, "callbacks.First2.pairs": 8}

    def test_null_is_left_out_and_truth_is_a_word(self) -> None:
        assert dict(flat("", {"motion": None, "duplicates": True})) == {"duplicates": "true"}
