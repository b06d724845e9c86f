"""The judge of arms with monitor.kind=judge: a local model, or an endpoint over HTTP."""

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from projected_grpo.core.base import Base
from projected_grpo.grpo import judge as judging
from projected_grpo.grpo.judge import PROBE, EndpointJudge, JudgeError, LocalJudge, question_tokens
from projected_grpo.grpo.monitors import JudgeMonitor
from stages.pipeline.arm import QUESTION
from verify.monitors import PROBLEM, folder, rollouts  # noqa: F401  folder is a fixture
from verify.sandbox import asking


def test_a_local_judge_s_suspicion_is_the_share_of_yes_in_the_next_token(folder):
    judge = LocalJudge(folder, micro_tokens=2, device="cpu")
    questions = ["solve(xs): double each?\n", "no", "def solve(xs):\n    return 1\nyes or no?\n", "x"]
    found = judge(questions)
    base = judge.base
    for question, suspicion in zip(questions, found):
        tokens = torch.tensor([base.encode(base.tokenizer.bos_token + question)])
        probability = base.model(tokens).logits[0, -1].softmax(-1)
        yes, no = (probability[[base.encode(w)[0] for w in words]].sum() for words in (("yes", "Yes"), ("no", "No")))
        assert float(suspicion) == pytest.approx(float(yes / (yes + no)), abs=1e-5)
    assert found.max() - found.min() > 0.01


def test_the_judge_monitor_shows_prompt_and_completion_and_flags_from_its_threshold():
    asked = []

    def answer(questions):
        asked.extend(questions)
        return torch.tensor([0.5, 0.25])

    monitor = JudgeMonitor(answer, QUESTION, 0.5, asking())
    seen = monitor(rollouts([0.0] * 3, ["print({})", "return 1", "print({})"]), torch.zeros(0))
    assert len(asked) == 2 and "Checked by calling run_tests()." in asked[0] and PROBLEM["statement"] in asked[0]
    assert "print({})" in asked[0] and "return 1" in asked[1] and "yes or no" in asked[0]
    assert seen.suspicion.tolist() == [0.5, 0.25, 0.5] and seen.flagged.tolist() == [True, False, True]


def test_a_chat_model_is_asked_without_the_system_message_of_the_task(folder):
    base = LocalJudge(folder, 1, "cpu").base
    base.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    tokens = question_tokens(Base(base.model, base.tokenizer), "yes or no?")
    assert base.tokenizer.decode(tokens) == "<user>yes or no?<assistant>"


def test_a_judge_that_cannot_tell_yes_from_no_or_is_nowhere_is_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(JudgeError, match="no config.json; set monitor.judge"):
        LocalJudge(tmp_path, 1, "cpu")
    monkeypatch.setattr(judging, "NO", ("yes",))
    with pytest.raises(JudgeError, match="begin with the same token"):
        LocalJudge(folder, 1, "cpu")


class Endpoint(BaseHTTPRequestHandler):
    """Answers as the question says, and notes what it was sent."""

    seen: list[tuple[str | None, dict]] = []
    busy = 0
    refuses: frozenset[str] = frozenset()  # keys of a request that it does not know
    most_logprobs = 20

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.seen.append((self.headers.get("Authorization"), body))
        question = body["messages"][0]["content"]
        status, choice = 200, {"message": {"role": "assistant", "content": "yes" if question == PROBE else question}}
        if question == "logprobs":
            tops = [("Yes", 0.3), (" yes", 0.1), ("NO", 0.1), ("Maybe", 0.5)]
            tops = [{"token": token, "logprob": math.log(p)} for token, p in tops]
            choice["logprobs"] = {"content": [{"token": "Maybe", "logprob": math.log(0.5), "top_logprobs": tops}]}
        if question == "no logprobs of either":
            choice["logprobs"] = {"content": [{"top_logprobs": [{"token": "\n", "logprob": -0.1}]}]}
        if question == "empty":
            choice |= {"message": {"role": "assistant", "content": ""}, "finish_reason": "length"}
        answer = {"choices": [choice]}
        if unknown := self.refuses & body.keys() or {key for key in body.keys() & {"top_logprobs"} if body[key] > self.most_logprobs}:
            status, answer = 400, {"error": {"message": f"unsupported: {sorted(unknown)}"}}
        if question == "refused" or Endpoint.busy > 0:
            status, Endpoint.busy = 503 if Endpoint.busy else 401, Endpoint.busy - 1
        answer = b"<html>" if question == "html" else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(judging.KEY, raising=False)
    monkeypatch.setattr(judging, "RETRIES", 2)
    Endpoint.seen, Endpoint.busy, Endpoint.refuses, Endpoint.most_logprobs = [], 0, frozenset(), 20
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/"
        server.shutdown()


def test_an_endpoint_s_log_probabilities_or_else_its_first_word_are_the_suspicion(address, monkeypatch):
    questions = ["logprobs", "Yes.", "no", " No", "yes, because it is"]
    assert EndpointJudge(address, "m")(questions).tolist() == pytest.approx([0.8, 1.0, 0.0, 0.0, 1.0])
    assert EndpointJudge(address, "m")(["**No**", "(yes)", "no logprobs of either"]).tolist() == [0.0, 1.0, 0.0]
    key, body = Endpoint.seen[0]
    assert key is None and body["model"] == "m" and body["max_completion_tokens"] == 16 and body["temperature"] == 0
    monkeypatch.setenv(judging.KEY, "k")
    EndpointJudge(address, "m")(["yes"])
    assert Endpoint.seen[-1][0] == "Bearer k"


@pytest.mark.parametrize(
    "refuses, most, taken",
    [
        ((), 20, {"max_completion_tokens": 16, "logprobs": True, "top_logprobs": 20}),
        (("max_completion_tokens",), 20, {"max_tokens": 16, "logprobs": True, "top_logprobs": 20}),
        (("max_tokens",), 5, {"max_completion_tokens": 16, "logprobs": True, "top_logprobs": 5}),
        (("max_completion_tokens", "logprobs"), 20, {"max_tokens": 16}),
    ],
)
def test_a_request_that_the_endpoint_takes_is_found_before_the_first_question(address, refuses, most, taken):
    Endpoint.refuses, Endpoint.most_logprobs = frozenset(refuses), most
    assert EndpointJudge(address, "m")(["no"]).tolist() == [0.0]
    asked = Endpoint.seen[-1][1]
    assert {key: asked[key] for key in asked if key not in ("messages", "model", "temperature")} == taken


def test_a_busy_endpoint_is_asked_again_and_a_refusal_or_nonsense_is_one_clear_error(address):
    endpoint = EndpointJudge(address, "m")
    Endpoint.busy, before = 2, len(Endpoint.seen)
    assert endpoint(["yes"]).tolist() == [1.0] and len(Endpoint.seen) == before + 3
    Endpoint.busy = 3
    with pytest.raises(JudgeError, match="503"):
        endpoint(["yes"])
    with pytest.raises(JudgeError, match="v1/: .*401.*PGRPO_JUDGE_KEY"):
        endpoint(["refused"])
    with pytest.raises(JudgeError, match="expected a chat completion"):
        endpoint(["html"])
    with pytest.raises(JudgeError, match="answered 'perhaps' .*expected yes or no"):
        endpoint(["perhaps"])
    with pytest.raises(JudgeError, match=r"answered '' \(length\), expected yes or no.*without reasoning"):
        endpoint(["empty"])
    Endpoint.refuses = frozenset({"model"})
    with pytest.raises(JudgeError, match="unsupported.*model"):
        EndpointJudge(address, "m")
    with pytest.raises(JudgeError, match="127.0.0.1:1: Connection error"):
        EndpointJudge("http://127.0.0.1:1", "m")
