#!/usr/bin/env python3
"""One fake model provider, three wire formats, for driving real coding CLIs.

    POST {/v1}/messages                Anthropic Messages   (claude)
    POST {/v1}/messages/count_tokens
    POST {/v1}/responses               OpenAI Responses     (codex)
    POST {/v1}/chat/completions        OpenAI/Mistral chat  (vibe)
    GET  {/v1}/models

Standard library only (Python >= 3.9), listens on loopback; the first line of output names the address. Examples:

    fake_provider_api.py --port 8111 --record requests.jsonl
    fake_provider_api.py --port 0 --port-file port.txt --token-delay 0.02
    fake_provider_api.py --port 8111 --fail 429 --retry-after 1 --fail-count 2
    fake_provider_api.py --port 8111 --models m1,m2 --require-key dummy

The answer is `ok[<n>]: <last user text>`, n being the number of user turns the
request carried, so that a resumed conversation shows itself in the answer.

Directives inside the last user text steer one request without any state:

    @@say some text@@            answer exactly this
    @@words 200@@                answer 200 words
    @@tool NAME {"arg": 1}@@     call this tool; the next answer is `tool said: ...`
                                 (codex, MCP tools: NAMESPACE/NAME, as mcp__gw/add)
    @@custom NAME text@@         the same for a free-form (custom) tool of codex
    @@fail MODE@@                one of the failure modes below
    @@hang SECONDS@@             wait before the first byte

Failure modes (--fail, --fail-count N for the first N model requests only,
0 = all; or @@fail MODE@@):

    400 401 403 404 413 429 500 502 503 529   that status, provider-shaped body
    hang          accept, never answer (until the client leaves)
    hang-mid      some tokens, then silence
    garbage       200 with a body that is neither JSON nor SSE
    badsse        SSE frames whose data is not JSON
    truncate      the stream stops in the middle, connection closed
    ssefail       an error event in the middle of the stream
    reset         TCP reset before any response byte
    empty         200, zero-length body

Runtime control:  GET /__health (the wires that are being answered, too);  GET /__requests (the recorded log);
POST /__reset;  POST /__control {"fail": "500", "fail_count": 1, "token_delay": 0.1}
"""
from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET_HEADERS = {"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"}
DIRECTIVE = re.compile(r"@@(say|words|tool|custom|fail|hang)\s+(.*?)@@", re.S)


class Leave(Exception):
    """The response is over; the connection is not to be reused."""


# --------------------------------------------------------------------------
# what a request asked for, in one shape for the three wires


def texts(content) -> list[str]:
    if isinstance(content, str):
        return [content]
    out = []
    for part in content or []:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            out.append(part["text"])
    return out


def digest_messages(body) -> dict:
    """Anthropic."""
    users, last, result = 0, [], None
    for message in body.get("messages") or []:
        content = message.get("content")
        if message.get("role") != "user":
            continue
        results = [p for p in content if isinstance(p, dict) and p.get("type") == "tool_result"] \
            if isinstance(content, list) else []
        if results:
            result = " ".join(t for r in results for t in texts(r.get("content")))
        else:
            users, last, result = users + 1, texts(content), None
    return {"users": users, "last": last, "result": result}


def digest_responses(body) -> dict:
    users, last, result = 0, [], None
    items = body.get("input")
    if isinstance(items, str):
        items = [{"type": "message", "role": "user", "content": items}]
    for item in items or []:
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") == "user":
            users, last, result = users + 1, texts(item.get("content")), None
        elif kind.endswith("_output"):
            output = item.get("output")
            result = " ".join(texts(output)) if not isinstance(output, dict) else json.dumps(output)
    return {"users": users, "last": last, "result": result}


def digest_chat(body) -> dict:
    users, last, result = 0, [], None
    for message in body.get("messages") or []:
        role = message.get("role")
        if role == "user":
            users, last, result = users + 1, texts(message.get("content")), None
        elif role == "tool":
            result = " ".join(texts(message.get("content")))
    return {"users": users, "last": last, "result": result}


def plan(asked: dict, reply: str | None) -> dict:
    """-> {"text"} | {"tool", "input"} | {"custom", "input"}, with fail/hang."""
    out: dict = {}
    joined = "\n".join(asked["last"])
    found = {} if asked["result"] is not None else {k: v for k, v in DIRECTIVE.findall(joined)}
    if "fail" in found:
        out["fail"] = found["fail"].strip()
    if "hang" in found:
        out["hang"] = float(found["hang"])
    if "tool" in found:
        name, _, raw = found["tool"].partition(" ")
        return {**out, "tool": name, "input": json.loads(raw or "{}")}
    if "custom" in found:
        name, _, raw = found["custom"].partition(" ")
        return {**out, "custom": name, "input": raw}
    if "say" in found:
        return {**out, "text": found["say"]}
    if "words" in found:
        return {**out, "text": " ".join(f"w{i}" for i in range(int(found["words"])))}
    if asked["result"] is not None:
        return {**out, "text": "tool said: " + asked["result"][:2000]}
    if reply is not None:
        return {**out, "text": reply}
    return {**out, "text": f"ok[{asked['users']}]: " + (asked["last"][-1] if asked["last"] else "")[:500]}


def pieces(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text) or [""]


# --------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    allow_reuse_address = True

    def __init__(self, args):
        super().__init__((args.host, args.port), Handler)
        self.args = args
        self.lock = threading.Lock()
        self.count = 0
        self.model_calls = 0
        self.log: list[dict] = []
        self.answering: list[dict] = []
        self.sink = open(args.record, "a", buffering=1) if args.record else None

    def note(self, entry: dict) -> None:
        with self.lock:
            self.log.append(entry)
            if self.sink:
                self.sink.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_):
        pass

    # ---- plumbing

    def receive(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0] or b"0", 16)
                raw += self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    break
        else:
            raw = self.rfile.read(length) if length else b""
        coding = self.headers.get("Content-Encoding", "")
        if coding == "gzip":
            raw = gzip.decompress(raw)
        elif coding == "deflate":
            raw = zlib.decompress(raw)
        elif coding == "zstd":
            try:
                import zstandard
                raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
            except ImportError:
                pass
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return raw.decode("utf-8", "replace")

    def shown_headers(self) -> dict:
        out = {}
        for name, value in self.headers.items():
            if name.lower() in SECRET_HEADERS and not self.server.args.keep_secrets:
                scheme, _, rest = value.rpartition(" ")
                value = f"{scheme} sha256:{hashlib.sha256(rest.encode()).hexdigest()[:12]}".strip()
            out[name.lower()] = value
        return out

    def send_json(self, status: int, data, headers: dict | None = None) -> None:
        self.entry["status"] = status
        blob = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(blob)))
        self.send_header("request-id", self.entry["id"])
        self.send_header("x-request-id", self.entry["id"])
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(blob)

    def start_sse(self) -> None:
        self.entry["status"] = 200
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("request-id", self.entry["id"])
        self.end_headers()

    def frame(self, data, event: str | None = None) -> None:
        raw = (f"event: {event}\n" if event else "") + "data: " + \
            (data if isinstance(data, str) else json.dumps(data)) + "\n\n"
        blob = raw.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(blob), blob))
        self.wfile.flush()
        self.entry.setdefault("first_byte_s", round(time.monotonic() - self.began, 4))

    def end_sse(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def until_gone(self, limit: float = 3600.0) -> None:
        """Wait until the client leaves."""
        end = time.monotonic() + limit
        self.connection.settimeout(0.2)
        while time.monotonic() < end:
            try:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    break
                time.sleep(0.2)
            except socket.timeout:
                continue
            except OSError:
                break
        self.entry["client_left_s"] = round(time.monotonic() - self.began, 3)
        raise Leave

    # ---- dispatch

    def handle_any(self) -> None:
        server = self.server
        self.began = time.monotonic()
        path = self.path.split("?")[0].rstrip("/") or "/"
        with server.lock:
            server.count += 1
            number = server.count
        body = self.receive()
        if path.startswith("/__"):
            self.entry = {"id": "control", "status": 0}
            return self.control(path, body)
        self.entry = {"n": number, "id": f"req_{number:06d}", "t": round(time.time(), 3),
                      "method": self.command, "path": self.path, "headers": self.shown_headers(),
                      "body": body, "status": 0}
        with server.lock:
            server.answering.append(self.entry)
        try:
            self.route(path, body)
        except Leave:
            self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.entry["client_left_s"] = round(time.monotonic() - self.began, 3)
            self.close_connection = True
        finally:
            self.entry["took_s"] = round(time.monotonic() - self.began, 4)
            with server.lock:
                server.answering = [entry for entry in server.answering if entry is not self.entry]
            server.note(self.entry)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = handle_any

    def control(self, path: str, body) -> None:
        server = self.server
        if path == "/__requests":
            return self.send_json(200, server.log)
        if path == "/__reset":
            with server.lock:
                server.log.clear()
                server.model_calls = 0
        elif path == "/__control":
            for key, value in (body or {}).items():
                setattr(server.args, key, value)
            with server.lock:
                server.model_calls = 0
        with server.lock:
            answering = [entry["wire"] for entry in server.answering if "wire" in entry]
        self.send_json(200, {"ok": True, "requests": len(server.log), "answering": answering})

    def route(self, path: str, body) -> None:
        server, args = self.server, self.server.args
        if self.command in ("GET", "HEAD") and path.endswith("/models"):
            names = args.models or ["fake-model"]
            self.send_json(200, {"object": "list", "has_more": False, "data": [
                {"id": n, "object": "model", "type": "model", "display_name": n, "created": 1700000000,
                 "created_at": "2025-01-01T00:00:00Z", "owned_by": "fake"} for n in names]})
            return
        wire = {"/messages": "anthropic", "/responses": "responses", "/chat/completions": "chat"}
        kind = next((wire[end] for end in wire if path.endswith(end)), None)
        if path.endswith("/count_tokens"):
            return self.send_json(200, {"input_tokens": max(1, len(json.dumps(body)) // 4)})
        if kind is None or self.command != "POST" or not isinstance(body, dict):
            return self.send_json(404, {"error": {"type": "not_found_error", "message": f"no route {path}"}})
        self.kind = self.entry["wire"] = kind
        self.model = body.get("model") or "?"
        if args.require_key:
            got = self.headers.get("x-api-key") or self.headers.get("authorization", "").rpartition(" ")[2]
            if got != args.require_key:
                return self.fail("401")
        if args.models and self.model not in args.models:
            return self.fail("404")
        asked = {"anthropic": digest_messages, "responses": digest_responses, "chat": digest_chat}[kind](body)
        todo = plan(asked, args.reply)
        self.entry["users"] = asked["users"]
        with server.lock:
            server.model_calls += 1
            failing = args.fail and (not args.fail_count or server.model_calls <= args.fail_count)
        mode = todo.get("fail") or (args.fail if failing else None)
        pause = todo.get("hang", args.first_byte_delay)
        if pause:
            time.sleep(pause)
        self.entry["answer"] = {k: v for k, v in todo.items() if k in ("text", "tool", "custom", "input")}
        if mode:
            self.entry["fail"] = mode
            if mode not in ("truncate", "ssefail", "hang-mid"):
                return self.fail(mode)
        self.mode = mode
        stream = body.get("stream", False)
        getattr(self, f"{kind}_{'stream' if stream else 'plain'}")(todo)

    # ---- failures

    def fail(self, mode: str) -> None:
        args = self.server.args
        self.entry["fail"] = mode
        if mode.isdigit():
            status = int(mode)
            kinds = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
                     404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error",
                     529: "overloaded_error"}
            text = {401: "invalid x-api-key", 404: f"model: {self.model}", 429: "rate limited by the fake API",
                    529: "Overloaded"}.get(status, f"fake failure {status}")
            extra = {"retry-after": str(args.retry_after)} if status in (429, 503, 529) else {}
            if self.kind == "anthropic":
                data = {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": text},
                        "request_id": self.entry["id"]}
            elif self.kind == "responses":
                code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(status)
                data = {"error": {"message": text, "type": kinds.get(status, "server_error"), "param": None,
                                  "code": code}}
            else:
                data = {"object": "error", "message": text, "type": kinds.get(status, "server_error"),
                        "param": None, "code": str(status)}
            return self.send_json(status, data, extra)
        if mode == "hang":
            self.until_gone()
        if mode == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            raise Leave
        if mode == "garbage":
            return self.send_json(200, b"<html>not what you asked for \xff\xfe</html>")
        if mode == "empty":
            return self.send_json(200, b"")
        if mode == "badsse":
            self.start_sse()
            self.frame("{this is not json", "message_start")
            self.frame("neither is this")
            return self.end_sse()
        self.send_json(500, {"error": {"message": f"unknown fake failure mode {mode}"}})

    def tokens(self, text: str):
        """The words of the text, at the configured pace, also when that changes; stops half-way in mid-stream failures."""
        parts = pieces(text)
        for index, part in enumerate(parts):
            if self.mode and index >= max(1, len(parts) // 2):
                if self.mode == "hang-mid":
                    self.until_gone()
                if self.mode == "truncate":
                    raise Leave
                if self.mode == "ssefail":
                    error = {"type": "overloaded_error", "message": "Overloaded (fake, mid-stream)"}
                    if self.kind == "anthropic":
                        self.frame({"type": "error", "error": error}, "error")
                    elif self.kind == "responses":
                        self.frame({"type": "response.failed", "response": {
                            "id": self.entry["id"], "object": "response", "status": "failed",
                            "error": {"code": "server_error", "message": error["message"]}}}, "response.failed")
                    else:
                        self.frame({"object": "error", **error, "error": error})
                    self.end_sse()
                    raise Leave
            if index:
                time.sleep(self.server.args.token_delay)
            yield part

    def usage(self, text: str) -> dict:
        return {**self.server.args.usage_numbers, "output": len(pieces(text))}

    # ---- Anthropic Messages

    def anthropic_usage(self, text: str) -> dict:
        u = self.usage(text)
        return {"input_tokens": u["input"], "cache_creation_input_tokens": u["cache_write"],
                "cache_read_input_tokens": u["cache_read"], "output_tokens": u["output"]}

    def anthropic_plain(self, todo) -> None:
        text = todo.get("text", "")
        block = {"type": "text", "text": text} if "text" in todo else \
            {"type": "tool_use", "id": f"toolu_{self.entry['n']:06d}", "name": todo.get("tool"), "input": todo["input"]}
        self.send_json(200, {"id": f"msg_{self.entry['n']:06d}", "type": "message", "role": "assistant",
                             "model": self.model, "content": [block],
                             "stop_reason": "end_turn" if "text" in todo else "tool_use", "stop_sequence": None,
                             "usage": self.anthropic_usage(text)})

    def anthropic_stream(self, todo) -> None:
        text = todo.get("text", "")
        self.start_sse()
        send = lambda data: self.frame(data, data["type"])  # noqa: E731
        send({"type": "message_start", "message": {
            "id": f"msg_{self.entry['n']:06d}", "type": "message", "role": "assistant", "model": self.model,
            "content": [], "stop_reason": None, "stop_sequence": None,
            "usage": {**self.anthropic_usage(text), "output_tokens": 1}}})
        if "text" in todo:
            send({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            for part in self.tokens(text):
                send({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": part}})
        else:
            send({"type": "content_block_start", "index": 0, "content_block": {
                "type": "tool_use", "id": f"toolu_{self.entry['n']:06d}", "name": todo.get("tool"), "input": {}}})
            for part in self.tokens(json.dumps(todo["input"])):
                send({"type": "content_block_delta", "index": 0,
                      "delta": {"type": "input_json_delta", "partial_json": part}})
        send({"type": "content_block_stop", "index": 0})
        send({"type": "message_delta", "delta": {"stop_reason": "end_turn" if "text" in todo else "tool_use",
                                                 "stop_sequence": None},
              "usage": self.anthropic_usage(text or "x")})
        send({"type": "message_stop"})
        self.end_sse()

    # ---- OpenAI Responses

    def responses_usage(self, text: str) -> dict:
        u = self.usage(text)
        total = u["input"] + u["cache_read"] + u["cache_write"]
        return {"input_tokens": total, "input_tokens_details": {"cached_tokens": u["cache_read"]},
                "output_tokens": u["output"] + u["reasoning"],
                "output_tokens_details": {"reasoning_tokens": u["reasoning"]},
                "total_tokens": total + u["output"] + u["reasoning"]}

    def responses_item(self, todo) -> dict:
        n = self.entry["n"]
        if "text" in todo:
            return {"type": "message", "id": f"msg_{n:06d}", "status": "completed", "role": "assistant",
                    "content": [{"type": "output_text", "text": todo["text"], "annotations": []}]}
        if "tool" in todo:
            space, _, name = todo["tool"].rpartition("/")  # codex groups MCP tools in namespaces
            return {"type": "function_call", "id": f"fc_{n:06d}", "call_id": f"call_{n:06d}", "name": name,
                    **({"namespace": space} if space else {}),
                    "arguments": json.dumps(todo["input"]), "status": "completed"}
        return {"type": "custom_tool_call", "id": f"ctc_{n:06d}", "call_id": f"call_{n:06d}",
                "name": todo["custom"], "input": todo["input"], "status": "completed"}

    def responses_body(self, todo, status="completed") -> dict:
        done = status == "completed"
        return {"id": f"resp_{self.entry['n']:06d}", "object": "response", "created_at": int(time.time()),
                "status": status, "model": self.model, "output": [self.responses_item(todo)] if done else [],
                "usage": self.responses_usage(todo.get("text", "x")) if done else None, "error": None}

    def responses_plain(self, todo) -> None:
        self.send_json(200, self.responses_body(todo))

    def responses_stream(self, todo) -> None:
        self.start_sse()
        sequence = iter(range(10 ** 9))
        send = lambda data: self.frame({**data, "sequence_number": next(sequence)}, data["type"])  # noqa: E731
        send({"type": "response.created", "response": self.responses_body(todo, "in_progress")})
        item = self.responses_item(todo)
        if "text" in todo:
            start = {**item, "status": "in_progress", "content": []}
            where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
            send({"type": "response.output_item.added", "output_index": 0, "item": start})
            send({"type": "response.content_part.added", **where,
                  "part": {"type": "output_text", "text": "", "annotations": []}})
            for part in self.tokens(todo["text"]):
                send({"type": "response.output_text.delta", **where, "delta": part})
            send({"type": "response.output_text.done", **where, "text": todo["text"]})
            send({"type": "response.content_part.done", **where, "part": item["content"][0]})
        else:
            send({"type": "response.output_item.added", "output_index": 0, "item": item})
        send({"type": "response.output_item.done", "output_index": 0, "item": item})
        send({"type": "response.completed", "response": self.responses_body(todo)})
        self.end_sse()

    # ---- chat completions

    def chat_usage(self, text: str) -> dict:
        u = self.usage(text)
        total = u["input"] + u["cache_read"] + u["cache_write"]
        return {"prompt_tokens": total, "completion_tokens": u["output"], "total_tokens": total + u["output"],
                "prompt_tokens_details": {"cached_tokens": u["cache_read"]}, "num_cached_tokens": u["cache_read"]}

    def chat_call(self, todo) -> list[dict]:
        return [{"index": 0, "id": f"call{self.entry['n']:05d}", "type": "function",
                 "function": {"name": todo.get("tool"), "arguments": json.dumps(todo["input"])}}]

    def chat_plain(self, todo) -> None:
        text = todo.get("text", "")
        message = {"role": "assistant", "content": text}
        if "text" not in todo:
            message["tool_calls"] = self.chat_call(todo)
        self.send_json(200, {"id": f"chatcmpl-{self.entry['n']:06d}", "object": "chat.completion",
                             "created": int(time.time()), "model": self.model,
                             "choices": [{"index": 0, "message": message,
                                          "finish_reason": "stop" if "text" in todo else "tool_calls"}],
                             "usage": self.chat_usage(text or "x")})

    def chat_stream(self, todo) -> None:
        text = todo.get("text", "")
        self.start_sse()

        def send(delta, finish=None, usage=None):
            data = {"id": f"chatcmpl-{self.entry['n']:06d}", "object": "chat.completion.chunk",
                    "created": int(time.time()), "model": self.model,
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            self.frame({**data, "usage": usage} if usage else data)

        send({"role": "assistant", "content": ""})
        if "text" in todo:
            for part in self.tokens(text):
                send({"content": part})
            send({"content": ""}, "stop", self.chat_usage(text))
        else:
            send({"content": "", "tool_calls": self.chat_call(todo)})
            send({"content": ""}, "tool_calls", self.chat_usage("x"))
        self.frame("[DONE]")
        self.end_sse()


def main(argv=None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--until-eof", action="store_true", help="end when standard input ends, so never outlive a test")
    p.add_argument("--port", type=int, default=0, help="0 = any free port")
    p.add_argument("--port-file", help="write the bound port here")
    p.add_argument("--record", help="append one JSON line per request to this file")
    p.add_argument("--keep-secrets", action="store_true", help="record key headers in clear")
    p.add_argument("--token-delay", type=float, default=0.0, help="seconds between two words")
    p.add_argument("--first-byte-delay", type=float, default=0.0)
    p.add_argument("--reply", help="fixed answer instead of the echo")
    p.add_argument("--fail", help="failure mode, see above")
    p.add_argument("--fail-count", type=int, default=0, help="fail only the first N model requests; 0 = all")
    p.add_argument("--retry-after", type=float, default=1)
    p.add_argument("--models", type=lambda s: [x for x in s.split(",") if x], default=[],
                   help="accept only these models, else 404")
    p.add_argument("--require-key", help="the only API key accepted, else 401")
    p.add_argument("--usage", default="input=1000,cache_read=200,cache_write=300,reasoning=0",
                   help="token counts reported (output is the number of words sent)")
    args = p.parse_args(argv)
    args.usage_numbers = {"input": 0, "cache_read": 0, "cache_write": 0, "reasoning": 0,
                          **{k: int(v) for k, v in (x.split("=") for x in args.usage.split(","))}}
    if args.retry_after == int(args.retry_after):
        args.retry_after = int(args.retry_after)
    server = Server(args)
    port = server.server_address[1]
    if args.port_file:
        with open(args.port_file, "w") as f:
            f.write(f"{port}\n")
    print(f"listening on http://{args.host}:{port}", flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    if args.until_eof:
        def wait_for_end() -> None:
            # Unbuffered: a buffered reader could not be left at exit while it waits.
            while os.read(0, 4096):
                pass
            server.shutdown()

        threading.Thread(target=wait_for_end, daemon=True).start()
    server.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
