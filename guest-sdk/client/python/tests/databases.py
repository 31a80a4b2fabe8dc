"""The database libraries of ``publish_in``, each with a transaction that commits
or rolls back."""

import sqlite3

import aiosqlite
import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

BUSY_S = 10.0


def end_with(connection, end):
    return connection.commit() if end == "commit" else connection.rollback()


def of_psycopg(hosts, end, publisher, messages):
    with psycopg.connect(hosts["postgres"]) as connection:
        try:
            for message in messages:
                publisher.publish_in(connection, message)
        except BaseException:
            connection.rollback()
            raise
        end_with(connection, end)


def of_psycopg_cursor(hosts, end, publisher, messages):
    with psycopg.connect(hosts["postgres"]) as connection:
        with connection.cursor() as cursor:
            for message in messages:
                publisher.publish_in(cursor, message)
        end_with(connection, end)


def of_sqlite3(hosts, end, publisher, messages):
    connection = sqlite3.connect(hosts["sqlite"], timeout=BUSY_S)
    try:
        for message in messages:
            publisher.publish_in(connection, message)
        end_with(connection, end)
    finally:
        connection.close()


def sqlalchemy_url(hosts, name):
    if name == "postgres":
        return hosts["postgres"].replace("postgres://", "postgresql+psycopg://", 1)
    return f"sqlite:///{hosts['sqlite']}"


def of_sqlalchemy(name):
    def transaction(hosts, end, publisher, messages):
        engine = sqlalchemy.create_engine(sqlalchemy_url(hosts, name))
        try:
            with Session(engine) as session:
                for message in messages:
                    publisher.publish_in(session, message)
                end_with(session, end)
        finally:
            engine.dispose()

    return transaction


def of_sqlalchemy_connection(hosts, end, publisher, messages):
    engine = sqlalchemy.create_engine(sqlalchemy_url(hosts, "postgres"))
    try:
        with engine.connect() as connection:
            for message in messages:
                publisher.publish_in(connection, message)
            end_with(connection, end)
    finally:
        engine.dispose()


async def of_psycopg_async(hosts, end, publisher, messages):
    async with await psycopg.AsyncConnection.connect(hosts["postgres"]) as connection:
        try:
            for message in messages:
                await publisher.publish_in(connection, message)
        except BaseException:
            await connection.rollback()
            raise
        await end_with(connection, end)


async def of_aiosqlite(hosts, end, publisher, messages):
    async with aiosqlite.connect(hosts["sqlite"], timeout=BUSY_S) as connection:
        for message in messages:
            await publisher.publish_in(connection, message)
        await end_with(connection, end)


async def of_sqlalchemy_async(hosts, end, publisher, messages):
    engine = create_async_engine(sqlalchemy_url(hosts, "postgres"))
    try:
        async with AsyncSession(engine) as session:
            for message in messages:
                await publisher.publish_in(session, message)
            await end_with(session, end)
    finally:
        await engine.dispose()


SYNC = {
    "psycopg": of_psycopg,
    "a cursor of psycopg": of_psycopg_cursor,
    "sqlite3": of_sqlite3,
    "a session of SQLAlchemy on PostgreSQL": of_sqlalchemy("postgres"),
    "a connection of SQLAlchemy on PostgreSQL": of_sqlalchemy_connection,
    "a session of SQLAlchemy on SQLite": of_sqlalchemy("sqlite"),
}
ASYNC = {"psycopg": of_psycopg_async, "aiosqlite": of_aiosqlite, "SQLAlchemy": of_sqlalchemy_async}
