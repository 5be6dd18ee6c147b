"""Serve keystone or neutron, or make neutron's tables: run by the Python of the services' own environment.

serve.py tables URL
serve.py MODULE PORT THREADS [ARGUMENTS]
"""

import importlib
import sys


def tables(url: str) -> None:
    """Make neutron's tables from its models: its migrations do not run on SQLite."""
    sqlalchemy = importlib.import_module("sqlalchemy")
    head = importlib.import_module("neutron.db.migration.models.head")
    head.get_metadata().create_all(sqlalchemy.create_engine(url))


def serve(module: str, port: int, threads: int, arguments: list[str]) -> None:
    """Serve a WSGI application on loopback. It reads this process's arguments as its own, so they are cleaned first."""
    sys.argv = [module, *arguments]
    application = importlib.import_module(module).application
    importlib.import_module("waitress").serve(application, host="127.0.0.1", port=port, threads=threads)


if __name__ == "__main__":
    if sys.argv[1] == "tables":
        tables(sys.argv[2])
    else:
        serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
