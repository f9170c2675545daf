"""A stand-in that speaks the part of PostgREST's dialect the suite uses, in front of a real PostgreSQL.

No PostgREST binary is obtainable where these tests run. This is not PostgREST: filters, upserts, page caps,
roles by key and error bodies follow its documentation; everything else is PostgreSQL's own doing. The same
tests against a real SUPABASE_URL are the only proof.
"""

import base64
import binascii
import hashlib
import hmac
import json
import threading
import time
from typing import Any

import psycopg
import uvicorn
from psycopg import sql
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.ports import free_port

MOST_ROWS = 1000  # Supabase's default "max rows"
SECRET = b"a secret of the stand-in alone, long enough"
OPERATORS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "like"}
NOT_FILTERS = {"select", "order", "limit", "offset", "on_conflict", "columns"}
STATUS_OF_STATE = {"23505": 409, "23503": 409, "42P01": 404, "42883": 404, "57014": 500}
STATUS_OF_CLASS = {"08": 503, "22": 400, "23": 400, "42": 400, "53": 503, "54": 413}


def key_for(role: str, secret: bytes = SECRET) -> str:
    """A project key as Supabase makes them: a JWT (HS256) that claims a role."""
    claims = {"iss": "stand-in", "role": role}
    signed = ".".join(_b64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{_b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


class RestError(Exception):
    """An answer that is an error, in PostgREST's form."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "details": None, "hint": None}


class PostgrestStandIn:
    """Served on a loopback port by a thread; stopped and started again it keeps its port."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.port = free_port()
        self.upserts: list[int] = []  # rows of each upsert that was committed
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        app = Starlette(routes=[Route("/rest/v1/{table}", self._answer, methods=["GET", "POST", "DELETE"])])
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_config=None, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "the stand-in did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """As a project that is down: nobody listens."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)
        self._server = self._thread = None

    async def _answer(self, request: Request) -> Response:
        try:
            role = role_of(request)
            async with await psycopg.AsyncConnection.connect(self._dsn, row_factory=dict_row) as connection:
                await connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
                return await self._statement(connection, request)
        except RestError as error:
            return JSONResponse(error.body, error.status)
        except psycopg.Error as error:
            state = error.sqlstate or "XX000"
            known = RestError(status_of(state, request), state, error.diag.message_primary or "no message")
            return JSONResponse(known.body, known.status)

    async def _statement(self, connection: psycopg.AsyncConnection[Any], request: Request) -> Response:
        table = sql.Identifier("public", request.path_params["table"])
        if request.method == "POST":
            count = await _upsert(connection, table, request)
            await connection.commit()
            self.upserts.append(count)
            return Response(status_code=201)
        where, values = _where(request)
        if request.method == "DELETE":
            await connection.execute(sql.SQL("delete from {}{}").format(table, where), values)
            return Response(status_code=204)
        statement = sql.SQL("select {} from {}{}{} limit {} offset {}").format(
            _columns(request.query_params.get("select", "*")),
            table,
            where,
            _order(request.query_params.get("order")),
            sql.Literal(min(MOST_ROWS, int(request.query_params.get("limit", MOST_ROWS)))),
            sql.Literal(int(request.query_params.get("offset", 0))),
        )
        cursor = await connection.execute(
            sql.SQL("select coalesce(json_agg(page), '[]')::text as body from ({}) page").format(statement),
            values,
        )
        row = await cursor.fetchone()
        return Response(row["body"] if row else "[]", media_type="application/json")


def role_of(request: Request) -> str:
    """The role a key claims; 401 in the gateway's words without a key, in PostgREST's for a false one."""
    key = request.headers.get("apikey")
    if not key:
        raise RestError(401, None, "No API key found in request")
    token = request.headers.get("authorization", f"Bearer {key}").removeprefix("Bearer ")
    signed, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature, _b64(hmac.digest(SECRET, signed.encode(), hashlib.sha256))):
        raise RestError(401, "PGRST301", "No suitable key was found to decode the JWT")
    try:
        claims = json.loads(base64.urlsafe_b64decode(signed.split(".")[1] + "=="))
    except (ValueError, IndexError, binascii.Error):
        raise RestError(401, "PGRST301", "JWT is not readable") from None
    return str(claims["role"])


def status_of(state: str, request: Request) -> int:
    """PostgREST's HTTP status for an SQLSTATE."""
    if state == "42501":
        return 401 if role_of(request) == "anon" else 403
    return STATUS_OF_STATE.get(state) or STATUS_OF_CLASS.get(state[:2], 500)


async def _upsert(connection: psycopg.AsyncConnection[Any], table: sql.Composable, request: Request) -> int:
    body = await request.body()
    try:
        rows = json.loads(body)
    except ValueError:
        raise RestError(400, "PGRST102", "Empty or invalid json") from None
    rows = rows if isinstance(rows, list) else [rows]
    given = request.query_params.get("columns")
    names = [name.strip('"') for name in given.split(",")] if given else sorted(rows[0])
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("insert into {} ({}) select {} from json_populate_recordset(null::{}, %s)").format(
        table, columns, columns, table
    )
    if "resolution=merge-duplicates" in request.headers.get("prefer", ""):
        changes = sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names
        )
        conflict = sql.Identifier(request.query_params["on_conflict"])
        statement += sql.SQL(" on conflict ({}) do update set {}").format(conflict, changes)
    await connection.execute(statement, [json.dumps(rows)])
    return len(rows)


def _where(request: Request) -> tuple[sql.Composable, list[Any]]:
    parts: list[sql.Composable] = []
    values: list[Any] = []
    for name, condition in request.query_params.multi_items():
        if name in NOT_FILTERS:
            continue
        operator, _, value = condition.partition(".")
        if operator == "is" and value in {"null", "true", "false"}:
            parts.append(sql.SQL("{} is ").format(sql.Identifier(name)) + sql.SQL(value))
        elif operator in OPERATORS:
            parts.append(sql.SQL("{} {} %s").format(sql.Identifier(name), sql.SQL(OPERATORS[operator])))
            values.append(value.replace("*", "%") if operator == "like" else value)
        else:
            raise RestError(400, "PGRST100", f"the stand-in does not know {operator}")
    if not parts:
        return sql.SQL(""), []
    return sql.SQL(" where ") + sql.SQL(" and ").join(parts), values


def _columns(text: str) -> sql.Composable:
    return sql.SQL("*") if text == "*" else sql.SQL(", ").join(map(sql.Identifier, text.split(",")))


def _order(text: str | None) -> sql.Composable:
    if not text:
        return sql.SQL("")
    name, _, direction = text.partition(".")
    downwards = sql.SQL(" desc") if direction == "desc" else sql.SQL("")
    return sql.SQL(" order by {}").format(sql.Identifier(name)) + downwards


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
