"""A mail server with moods: aiosmtpd on a free port of the loopback. Says its port, then each message as a line of JSON."""
import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

mood, certificate, key = sys.argv[1:4]


def say(**what):
    print(json.dumps(what), flush=True)


class Handler:
    def __init__(self):
        self.tries = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if mood == "refuse":
            return "550 5.1.1 nobody of that name; your password was hunter2-secret"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.tries += 1
        text = envelope.content.decode("utf-8", "replace")
        told = dict(text=text, to=envelope.rcpt_tos, tls=server.transport.get_extra_info("sslcontext") is not None, user=session.auth_data)
        if mood == "defer" and self.tries == 1:
            say(deferred=True, **told)
            return "451 4.3.0 come back later"
        if mood == "drop" and self.tries == 1:
            say(dropped=True, **told)
            server.transport.abort()
            return "250 nobody reads this"
        if mood == "hang" and self.tries == 1:
            say(hung=True, **told)
            await asyncio.sleep(3600)
        say(**told)
        return "250 2.0.0 taken"


def login(server, session, envelope, mechanism, data):
    if not isinstance(data, LoginPassword):
        return AuthResult(success=False, handled=False)
    if (data.login, data.password) != (b"bank", b"hunter2-secret"):
        return AuthResult(success=False, handled=False)
    return AuthResult(success=True, auth_data="bank")


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
safe = dict(authenticator=login, auth_required=True, decode_data=False)


handler = Handler()


def factory():
    if mood == "implicit":
        return SMTP(handler, auth_require_tls=False, **safe)
    return SMTP(handler, tls_context=context, require_starttls=True, auth_require_tls=True, **safe)


async def serve():
    loop = asyncio.get_running_loop()
    wraps = context if mood == "implicit" else None
    server = await loop.create_server(factory, host="127.0.0.1", port=0, ssl=wraps)
    say(port=server.sockets[0].getsockname()[1])
    # Ends with whoever started it.
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(serve())
