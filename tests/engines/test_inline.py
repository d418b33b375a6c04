"""The in-process grid keeps Flower's promises, and notices when Flower changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedsim.engines.inline import InlineGrid, flower_identity, repeatable, site_of


def make_app(seen: list[int]) -> ClientApp:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Any) -> Message:
        seen.append(int(context.node_config["partition-id"]))
        return Message(RecordDict(), reply_to=message)

    @app.train()
    def train(message: Message, context: Any) -> Message:
        raise ValueError("no such film")

    return app


def test_grid_has_exactly_the_members_that_flower_asks_for() -> None:
    assert Grid.__abstractmethods__ == {
        "set_run",
        "run",
        "create_message",
        "get_node_ids",
        "push_messages",
        "pull_messages",
        "send_and_receive",
    }
    assert not InlineGrid.__abstractmethods__


def test_messages_need_the_identity_that_we_give_and_take_back() -> None:
    with pytest.raises(RuntimeError, match="not set"):
        Message(RecordDict(), 2, "query")
    with flower_identity():
        assert Message(RecordDict(), 2, "query").metadata.dst_node_id == 2
    with pytest.raises(RuntimeError, match="not set"):
        _ = TaskIdentity.run_id


def test_replies_come_in_the_order_of_the_messages() -> None:
    seen: list[int] = []
    grid = InlineGrid(make_app(seen), num_sites=3)
    with flower_identity():
        nodes = list(grid.get_node_ids())[::-1]
        replies = grid.send_and_receive([Message(RecordDict(), n, "query") for n in nodes])
        assert [reply.metadata.src_node_id for reply in replies] == nodes
        ids = grid.push_messages([Message(RecordDict(), n, "query") for n in nodes])
        assert [r.metadata.src_node_id for r in grid.pull_messages(ids)] == nodes
    assert seen == [2, 1, 0, 2, 1, 0]


def test_a_million_nodes_cost_nothing_until_they_are_asked() -> None:
    seen: list[int] = []
    grid = InlineGrid(make_app(seen), num_sites=10**6)
    assert len(grid.get_node_ids()) == 10**6  # type: ignore[arg-type]
    with flower_identity():
        message = Message(RecordDict(), grid.nodes[999_999], "query")
        (reply,) = grid.send_and_receive([message])
    assert seen == [999_999]
    assert site_of(reply.metadata.src_node_id) == 999_999
    assert grid._contexts == {}


def test_a_client_finds_again_what_it_kept() -> None:
    app = ClientApp()

    @app.query()
    def count(message: Message, context: Any) -> Message:
        before = context.state.get("calls", ConfigRecord({"num": 0}))
        context.state["calls"] = ConfigRecord({"num": before["num"] + 1})
        return Message(RecordDict({"calls": context.state["calls"]}), reply_to=message)

    grid, found = InlineGrid(app, num_sites=10**6), []
    with flower_identity():
        for site in (7, 999, 7, 7):
            message = Message(RecordDict(), grid.nodes[site], "query")
            (reply,) = grid.send_and_receive([message])
            found.append(reply.content.config_records["calls"]["num"])
    assert found == [1, 1, 2, 3]
    assert len(grid._contexts) == 2


def test_clients_run_when_their_reply_is_taken() -> None:
    seen: list[int] = []
    grid = InlineGrid(make_app(seen), num_sites=3)
    with flower_identity():
        replies = iter(
            grid.send_and_receive([Message(RecordDict(), n, "query") for n in grid.nodes])
        )
        assert seen == []
        next(replies)
        assert seen == [0]


def test_a_failing_client_is_named() -> None:
    grid = InlineGrid(make_app([]), num_sites=2)
    with flower_identity():
        message = Message(RecordDict(), list(grid.get_node_ids())[1], "train")
        (reply,) = grid.send_and_receive([message])
    assert reply.has_error()
    assert reply.metadata.src_node_id == message.metadata.dst_node_id
    assert reply.error.reason == "ValueError: no such film"
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION


def test_repeatable_uses_one_thread_and_restores() -> None:
    before = torch.get_num_threads()
    with repeatable():
        assert torch.get_num_threads() == 1
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.allow_tf32
    assert torch.get_num_threads() == before


def test_repeatable_does_not_see_the_settings_of_the_caller() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu"), repeatable():
            assert torch.get_float32_matmul_precision() == "highest"
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
