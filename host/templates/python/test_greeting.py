import json
import unittest

from greeting import answer


class Greeting(unittest.TestCase):
    def test_it_greets_by_name(self) -> None:
        status, _, body = answer("GET", "/Ada", b"")
        self.assertEqual((status, json.loads(body)), (200, {"text": "Hello, Ada!"}))

    def test_a_name_that_is_too_long_is_refused(self) -> None:
        status, kind, _ = answer("GET", "/" + "a" * 51, b"")
        self.assertEqual((status, kind), (400, "application/problem+json"))


if __name__ == "__main__":
    unittest.main()
