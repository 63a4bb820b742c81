"""Has schemathesis drive the signing service from its own OpenAPI document.

drive.py SOCKET DOCUMENT KEY…  Exit code 0: every answer was as the document says.

schemathesis speaks TCP: a thread here carries bytes to the Unix socket and back. The names of keys in the document are
narrowed to those that there are, so that what is generated gets as far as a signature.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def carry(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(listener, path):
    while True:
        client, _ = listener.accept()
        service = socket.socket(socket.AF_UNIX)
        service.connect(path)
        for pair in ((client, service), (service, client)):
            threading.Thread(target=carry, args=pair, daemon=True).start()


def main():
    path, document, *keys = sys.argv[1:]
    with open(document, encoding="utf-8") as file:
        api = json.load(file)
    schemas = api["components"]["schemas"]
    for name in ("SignRequest", "BatchRequest", "MerkleRequest"):
        schemas[name]["properties"]["key"] = {"enum": keys}
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, path), daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        place = os.path.join(directory, "api.json")
        with open(place, "w", encoding="utf-8") as file:
            json.dump(api, file)
        command = [
            os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run", place,
            "--url", f"http://127.0.0.1:{listener.getsockname()[1]}",
            "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--mode", "all",
            "--max-examples", "60", "--seed", "7391", "--generation-deterministic",
            "--workers", "1", "--no-color",
        ]
        sys.exit(subprocess.run(command, cwd=directory, check=False).returncode)


main()
