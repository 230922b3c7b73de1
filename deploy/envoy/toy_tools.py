"""A toy tool server: `POST /tools/NAME` answers at once, `GET /stream/NAME` goes on until somebody hangs up.

It knows nothing of Haltline; what it says of a request is what the proxy in front let through.
"""

import http.server
import json
import sys
import time


class Tools(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        told = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"did": self.path, "headers": told}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        step = 0
        try:
            while True:
                line = f"{self.path} step {step}\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                step += 1
                time.sleep(0.05)
        except OSError:
            print(f"{self.path} was cut after step {step}", flush=True)
            self.close_connection = True

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    server = http.server.ThreadingHTTPServer((address, 9000), Tools)
    server.daemon_threads = True
    print(f"tools at {address}:9000", flush=True)
    server.serve_forever()
