"""Receivers for tests: an HTTP server that does what it is told, and an SMTP server that keeps messages."""

import contextlib
import socketserver
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class HttpSink:
    """Keeps requests; `answer(handler)` writes what comes back."""

    def __init__(self):
        self.requests = []
        self.statuses = []
        self.bodies = []
        self.body = b"{}"
        self.headers = {}
        self.stream = None
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers.get("content-length", 0))
                sink.requests.append((self.path, dict(self.headers.items()), self.rfile.read(length)))
                if sink.stream is not None:
                    with contextlib.suppress(OSError):
                        sink.stream(self.wfile)
                    self.close_connection = True
                    return
                body = sink.bodies.pop(0) if sink.bodies else sink.body
                self.send_response(sink.statuses.pop(0) if sink.statuses else 200)
                for name, value in {"Content-Length": str(len(body)), **sink.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def certificate(folder, name):
    """Write a certificate of our own for a name or an address; return its file, which also holds the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    try:
        alternative = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = folder / f"{name}.pem"
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, private, serialization.NoEncryption()))
    return path


class _Session(socketserver.StreamRequestHandler):
    """One client."""

    def finish(self):
        super().finish()
        self.connection.close()

    def handle(self):
        self.sink, self.secure = self.server.sink, False
        self.sender, self.recipients = "", []
        self.say("220 sink")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            if verb in self.sink.answers:
                self.say(self.sink.answers[verb])
            else:
                getattr(self, verb.lower(), self.other)(line)
            if verb == "QUIT":
                return

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def other(self, line):
        self.say("250 ok")

    def quit(self, line):
        self.say("221 bye")

    def ehlo(self, line):
        offers = ["AUTH PLAIN", *(["STARTTLS"] if self.sink.cert and not self.secure else []), "8BITMIME"]
        for offer in ("sink", *offers[:-1]):
            self.say(f"250-{offer}")
        self.say(f"250 {offers[-1]}")

    def starttls(self, line):
        self.say("220 go")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.sink.cert)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.secure = True

    def auth(self, line):
        self.sink.logins.append(line)
        self.say("235 welcome")

    def mail(self, line):
        self.sender = line
        self.say("250 ok")

    def rcpt(self, line):
        self.recipients.append(line)
        self.say("250 ok")

    def data(self, line):
        self.say("354 go on")
        text = b""
        while (part := self.rfile.readline()) != b".\r\n":
            text += part
        self.sink.messages.append((self.sender, self.recipients, text))
        self.sink.encrypted.append(self.secure)
        self.say("250 kept")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that breaks off is no finding


class SmtpSink:
    """Speaks SMTP as RFC 5321 has it, with STARTTLS when it has a certificate; keeps (sender, recipients, message)."""

    def __init__(self, cert=None):
        self.cert = cert
        self.messages = []
        self.logins = []
        self.encrypted = []
        self.answers = {}
        self.server = _Server(("127.0.0.1", 0), _Session)
        self.server.sink = self
        self.port = self.server.server_address[1]

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
