//! Access tokens between us and PyJWT, which is what many Python services check them with.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use haltline_core::{
    ids::{ClusterId, CredentialId, GrantId, Incarnation, InstanceId, LogIndex, NodeId},
    time::ClusterTime,
};
use haltline_pki::{
    StatementSigner, UnixSeconds,
    token::{Claims, VerifyingKeys, key_id, parse_and_verify, sign},
};
use serde_json::{Value, json};

/// The example key of RFC 8410, section 10.3, as its file and as the 32 bytes in it.
const KEY_FILE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const SEED: &str = "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
/// Its public half (section 10.1) in base64url, as a JWK has it (RFC 8037).
const PUBLIC: &str = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE";
const NODE: NodeId = NodeId(2);

/// Packages as this test was written against them.
const PACKAGES: [&str; 2] = ["PyJWT==2.15.1", "cryptography==50.0.2"];

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The node whose key everybody knows, read from a file of the test's own.
fn node(test: &str) -> (StatementSigner, VerifyingKeys) {
    let path = scratch(&format!("interop-{}-{test}.key", std::process::id()));
    fs::write(&path, KEY_FILE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let signer = StatementSigner::load(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let keys = VerifyingKeys::new([(NODE, signer.public_key())]).unwrap();
    (signer, keys)
}

/// A credential that is valid at wall clock `from` for five minutes.
fn claims(from: u64) -> Claims {
    Claims {
        issuer: "https://stop.example.com".parse().unwrap(),
        audience: "https://ledger.example.com".parse().unwrap(),
        cluster: ClusterId([0xc1; 16]),
        credential: CredentialId([7; 16]),
        agent: "acme/finance/invoice/reconciler".parse().unwrap(),
        instance: InstanceId([9; 16]),
        lineage: vec![GrantId([1; 16]), GrantId([2; 16])],
        task: "reconcile \"März\"".parse().unwrap(),
        scope: vec!["ledger.read".parse().unwrap(), "mail.*".parse().unwrap()],
        issued_at: UnixSeconds(from),
        expires_at: UnixSeconds(from + 300),
        ends: ClusterTime(86_400_000),
        index: LogIndex(4_711),
        incarnation: Incarnation(1),
        node: NODE,
    }
}

/// The same as claims of a JWT, written by hand.
fn as_json(from: u64) -> Value {
    let agent = "acme/finance/invoice/reconciler";
    let instance = "09".repeat(16);
    json!({
        "iss": "https://stop.example.com",
        "aud": "https://ledger.example.com",
        "sub": format!("spiffe://{}/{agent}/{instance}", "c1".repeat(16)),
        "client_id": agent,
        "iat": from,
        "exp": from + 300,
        "jti": "07".repeat(16),
        "scope": "ledger.read mail.*",
        "haltline": {
            "path": agent,
            "instance": instance,
            "lineage": ["01".repeat(16), "02".repeat(16)],
            "depth": 1,
            "task": "reconcile \"März\"",
            "index": 4_711,
            "ends": 86_400_000,
            "incarnation": 1,
            "node": 2,
        },
    })
}

/// A moment of the vectors; nobody asks for the wall clock when reading them.
const VECTOR_FROM: u64 = 1_795_461_480;

#[test]
fn a_token_that_pyjwt_made_is_read() {
    let (_, keys) = node("reads");
    let token = include_str!("access-token-by-pyjwt.txt").trim_end();
    assert_eq!(parse_and_verify(token, &keys).unwrap().claims, claims(VECTOR_FROM));
}

#[test]
fn our_token_is_the_text_that_pyjwt_was_seen_to_accept() {
    let (signer, keys) = node("pinned");
    let token = sign(&signer, &claims(VECTOR_FROM)).unwrap();
    assert_eq!(token, include_str!("access-token-by-haltline.txt").trim_end());
    assert_eq!(parse_and_verify(&token, &keys).unwrap().claims, claims(VECTOR_FROM));
}

#[test]
fn pyjwt_and_we_read_each_others_tokens() {
    let Some(python) = python() else { return };
    let (signer, keys) = node("live");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = sign(&signer, &claims(now)).unwrap();
    // Another signature that is right, under other content.
    let other = sign(&signer, &claims(now + 1)).unwrap();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let kid = key_id(&signer.public_key()).to_string();
    let said = ask(
        &python,
        &json!({
            "token": token,
            "tampered": format!("{signed}.{signature}"),
            "jwk": {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": PUBLIC},
            "seed": SEED,
            "issuer": "https://stop.example.com",
            "audience": "https://ledger.example.com",
            "claims": as_json(now),
            "kid": kid,
        }),
    );
    assert_eq!(said["claims"], as_json(now));
    assert_eq!(said["header"], json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}));
    assert_eq!(said["tampered"], "InvalidSignatureError");
    assert_eq!(said["elsewhere"], "InvalidAudienceError");
    let theirs = said["token"].as_str().unwrap();
    assert_eq!(parse_and_verify(theirs, &keys).unwrap().claims, claims(now));
}

fn ask(python: &Path, question: &Value) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/suite/interop/pyjwt_tokens.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the interpreter was just made");
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} failed; its reason is above");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An interpreter with PyJWT, made once and kept below the target directory.
fn python() -> Option<PathBuf> {
    let directory = scratch("interop-pyjwt");
    let python = directory.join("bin/python");
    let ready = directory.join(format!("ready-{}", PACKAGES.join("-")));
    if ready.exists() {
        return Some(python);
    }
    let venv = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory).status();
    let made = venv.is_ok_and(|status| status.success());
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"];
    let installed = made
        && Command::new(&python).args(install).args(PACKAGES).status().is_ok_and(|status| status.success());
    if installed {
        fs::write(&ready, "").unwrap();
        return Some(python);
    }
    let required = env::var("HALTLINE_INTEROP").is_ok_and(|value| value == "required");
    assert!(!required, "HALTLINE_INTEROP=required, but a Python with {PACKAGES:?} can't be made");
    eprintln!("left out: a Python with {PACKAGES:?} can't be made here");
    None
}
