"""Reads our access token with PyJWT and makes one of its own; one JSON object in, one out.

In:  token, tampered, jwk (the node's public key, as a JWKS would list it), seed (hexadecimal, the same key's private
     half), issuer, audience, claims (to be signed), kid.
Out: claims and header as PyJWT read them, the errors it raised for what it must refuse, and its own token.
"""

import json
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

REQUIRED = ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"]


def read(given, token, audience):
    return jwt.decode_complete(
        token,
        jwt.PyJWK.from_dict(given["jwk"]).key,
        algorithms=["EdDSA"],
        audience=audience,
        issuer=given["issuer"],
        options={"require": REQUIRED},
    )


def refusal(given, token, audience):
    try:
        read(given, token, audience)
    except jwt.PyJWTError as error:
        return type(error).__name__
    return None


def main():
    given = json.load(sys.stdin)
    ours = read(given, given["token"], given["audience"])
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(given["seed"]))
    theirs = jwt.encode(
        given["claims"], key, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": given["kid"]}
    )
    json.dump(
        {
            "claims": ours["payload"],
            "header": ours["header"],
            "tampered": refusal(given, given["tampered"], given["audience"]),
            "elsewhere": refusal(given, given["token"], "https://elsewhere.example.com"),
            "token": theirs,
        },
        sys.stdout,
    )


main()
