"""A mail server for tests: aiosmtpd (Debian: python3-aiosmtpd) as a process of its own, until its standard input ends.

It prints its port, and then each mail it has taken as a line of JSON. Addresses that begin with "unknown" are refused for
good (550), those that begin with "later" for now (451).
"""
import argparse
import asyncio
import base64
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

options = argparse.ArgumentParser()
options.add_argument("--cert")
options.add_argument("--key")
options.add_argument("--security", choices=["starttls", "tls", "none"], default="none")
options.add_argument("--password", help="of the user alerts, who has to sign in")
options.add_argument("--login", action="store_true", help="offers LOGIN and not PLAIN")
options = options.parse_args()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("unknown"):
            return "550 5.1.1 there is nobody of this name"
        if address.startswith("later"):
            return "451 4.3.2 come back later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "secure": options.security == "tls" or session.ssl is not None,
            "user": session.auth_data.login.decode() if session.auth_data else "",
            "text": base64.b64encode(envelope.content).decode(),
        }), flush=True)
        return "250 2.0.0 OK"


def sign_in(server, session, envelope, mechanism, data):
    good = data.login == b"alerts" and data.password == options.password.encode()
    return AuthResult(success=good, handled=False, auth_data=data)


async def serve():
    tls = None
    if options.security != "none":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.cert, options.key)

    def protocol():
        return SMTP(
            Handler(), hostname="mail.test", enable_SMTPUTF8=True,
            tls_context=tls if options.security == "starttls" else None, require_starttls=options.security == "starttls",
            authenticator=sign_in if options.password else None, auth_required=bool(options.password),
            auth_require_tls=options.security == "starttls", auth_exclude_mechanism=["PLAIN"] if options.login else [],
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls if options.security == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(serve())
