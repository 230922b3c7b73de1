//! Tokens as honest nodes make them, and as everybody else would.

#![allow(clippy::unwrap_used, clippy::panic)]

use haltline_core::{
    ids::{ClusterId, CredentialId, GrantId, Incarnation, InstanceId, LogIndex, NodeId, PublicKey},
    limits::{
        PATH_BYTES_MAX, PATTERN_BYTES_MAX, TEXT_BYTES_MAX, TOKEN_BYTES_MAX, TOKEN_HEADER_BYTES_MAX,
        TOKEN_JSON_MEMBERS_MAX, TOKEN_KEYS_MAX, TOKEN_LINEAGE_MAX, TOKEN_SCOPE_BYTES_MAX,
    },
    text::Text,
    time::ClusterTime,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Claims, TokenError, TokenPart, VerifyingKeys, check_request, key_id, parse_and_verify, sign};
use crate::{StatementSigner, base64url, unix_time::UnixSeconds, verify_statement};

const NODE: NodeId = NodeId(3);

fn claims() -> Claims {
    Claims {
        issuer: "https://stop.example.com".parse().unwrap(),
        audience: "haltline:000102030405060708090a0b0c0d0e0f".parse().unwrap(),
        cluster: ClusterId(std::array::from_fn(|at| at as u8)),
        credential: CredentialId([7; 16]),
        agent: "acme/finance/invoice/reconciler".parse().unwrap(),
        instance: InstanceId([9; 16]),
        lineage: vec![GrantId([1; 16]), GrantId([2; 16])],
        task: "reconcile \"März\"\nand tell".parse().unwrap(),
        scope: vec!["ledger.read".parse().unwrap(), "mail.*".parse().unwrap()],
        issued_at: UnixSeconds(1_795_461_480),
        expires_at: UnixSeconds(1_795_461_780),
        ends: ClusterTime(86_400_000),
        index: LogIndex(4_711),
        incarnation: Incarnation(1),
        node: NODE,
    }
}

/// A node with its key, and the keys of its cluster.
struct World {
    signer: StatementSigner,
    keys: VerifyingKeys,
}

impl World {
    fn new() -> Self {
        let signer = StatementSigner::generate().unwrap();
        let keys = VerifyingKeys::new([(NODE, signer.public_key())]).unwrap();
        Self { signer, keys }
    }

    fn kid(&self) -> String {
        key_id(&self.signer.public_key()).to_string()
    }

    fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid()})
    }

    /// What this node's key makes of any header and claims.
    fn forge(&self, header: &str, claims: &str) -> String {
        let mut token = String::new();
        base64url::encode_onto(&mut token, header.as_bytes());
        token.push('.');
        base64url::encode_onto(&mut token, claims.as_bytes());
        let signature = self.signer.sign(token.as_bytes());
        token.push('.');
        base64url::encode_onto(&mut token, &signature);
        token
    }

    fn refusal(&self, token: &str) -> TokenError {
        parse_and_verify(token, &self.keys).unwrap_err()
    }

    /// What becomes of a token with this header, rightly signed.
    fn refused_header(&self, header: &str) -> TokenError {
        self.refusal(&self.forge(header, &honest_json()))
    }

    /// What becomes of a token with these claims, rightly signed.
    fn refused_claims(&self, claims: &str) -> TokenError {
        self.refusal(&self.forge(&self.header().to_string(), claims))
    }
}

fn honest_json() -> String {
    String::from_utf8(claims().to_json().unwrap()).unwrap()
}

fn honest_value() -> Value {
    serde_json::from_str(&honest_json()).unwrap()
}

#[test]
fn what_is_signed_is_what_is_read() {
    let world = World::new();
    let token = sign(&world.signer, &claims()).unwrap();
    let verified = parse_and_verify(&token, &world.keys).unwrap();
    assert_eq!(verified.claims, claims());
    assert_eq!(verified.key, key_id(&world.signer.public_key()));
    assert_eq!(world.keys.node(&verified.key), Some(NODE));
    // Without tools of its own the claim is left out, as RFC 9068 has it for requests without a scope.
    let bare = Claims { scope: Vec::new(), ..claims() };
    let token = sign(&world.signer, &bare).unwrap();
    assert_eq!(parse_and_verify(&token, &world.keys).unwrap().claims, bare);
}

#[test]
fn the_claims_are_those_of_the_standards() {
    let value = honest_value();
    let subject = "spiffe://000102030405060708090a0b0c0d0e0f/acme/finance/invoice/reconciler/09090909090909090909090909090909";
    assert_eq!(
        value,
        json!({
            "iss": "https://stop.example.com",
            "aud": "haltline:000102030405060708090a0b0c0d0e0f",
            "sub": subject,
            "client_id": "acme/finance/invoice/reconciler",
            "iat": 1_795_461_480,
            "exp": 1_795_461_780,
            "jti": "07070707070707070707070707070707",
            "scope": "ledger.read mail.*",
            "haltline": {
                "path": "acme/finance/invoice/reconciler",
                "instance": "09090909090909090909090909090909",
                "lineage": ["01010101010101010101010101010101", "02020202020202020202020202020202"],
                "depth": 1,
                "task": "reconcile \"März\"\nand tell",
                "index": 4_711,
                "ends": 86_400_000,
                "incarnation": 1,
                "node": 3,
            },
        })
    );
}

#[test]
fn the_verifier_chooses_the_algorithm() {
    let world = World::new();
    let public = world.signer.public_key();
    let with_alg = |alg: &str| json!({"alg": alg, "typ": "at+jwt", "kid": world.kid()}).to_string();
    for alg in ["none", "None", "NONE", "HS256", "ES256", "RS256", "eddsa", "Ed25519", "EdDSA ", ""] {
        assert_eq!(world.refused_header(&with_alg(alg)), TokenError::Algorithm, "{alg}");
    }
    // Unsigned, as `alg: none` has it.
    let mut unsigned = String::new();
    base64url::encode_onto(&mut unsigned, with_alg("none").as_bytes());
    unsigned.push('.');
    base64url::encode_onto(&mut unsigned, honest_json().as_bytes());
    unsigned.push('.');
    assert_eq!(world.refusal(&unsigned), TokenError::Algorithm);
    // HMAC with the public key as the secret: the classic confusion. It fails at the header, and at the signature if the
    // header lies.
    for (alg, expected) in [("HS256", TokenError::Algorithm), ("EdDSA", TokenError::BadSignature)] {
        let mut token = String::new();
        base64url::encode_onto(&mut token, with_alg(alg).as_bytes());
        token.push('.');
        base64url::encode_onto(&mut token, honest_json().as_bytes());
        let mac = hmac_sha256(&public.0, token.as_bytes());
        token.push('.');
        base64url::encode_onto(&mut token, &[mac, mac].concat());
        assert_eq!(world.refusal(&token), expected);
    }
}

/// RFC 2104, for a key of at most one block.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([&pad(0x5c)[..], &inner].concat()).into()
}

#[test]
fn keys_come_from_the_cluster_alone() {
    let (world, stranger) = (World::new(), World::new());
    let token = sign(&stranger.signer, &claims()).unwrap();
    assert_eq!(world.refusal(&token), TokenError::UnknownKey { key: key_id(&stranger.signer.public_key()) });
    // A stranger's signature under our key's name, with the stranger's own key offered in every way there is.
    let mut header = world.header();
    let mut jwk = String::new();
    base64url::encode_onto(&mut jwk, &stranger.signer.public_key().0);
    header["jwk"] = json!({"kty": "OKP", "crv": "Ed25519", "x": jwk});
    header["jku"] = json!("https://stranger.example.com/jwks.json");
    header["x5u"] = json!("https://stranger.example.com/chain.pem");
    header["x5c"] = json!(["MIIB"]);
    let token = stranger.forge(&header.to_string(), &honest_json());
    assert_eq!(world.refusal(&token), TokenError::BadSignature);
    // The same offers with our own signature change nothing: they aren't looked at.
    let token = world.forge(&header.to_string(), &honest_json());
    assert_eq!(parse_and_verify(&token, &world.keys).unwrap().claims, claims());
}

#[test]
fn other_headers_are_refused_with_their_reason() {
    let world = World::new();
    let kid = world.kid();
    let malformed = |expected| TokenError::Malformed { part: TokenPart::Header, expected };
    let fields = malformed("`alg`, `typ` and `kid` as strings");
    let digits = malformed("`kid` as 64 lower-case hexadecimal digits");
    let twice = TokenError::Unsound { part: TokenPart::Header, fault: "one name twice in one object" };
    let deep = TokenError::Unsound { part: TokenPart::Header, fault: "values nested too deeply" };
    for (header, expected) in [
        (r#"{"alg":"EdDSA","kid":"KID"}"#, TokenError::WrongType),
        (r#"{"alg":"EdDSA","typ":"JWT","kid":"KID"}"#, TokenError::WrongType),
        (r#"{"alg":"EdDSA","typ":"AT+JWT","kid":"KID"}"#, TokenError::WrongType),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"KID","crit":["b64"],"b64":false}"#, TokenError::Critical),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"KID","crit":null}"#, TokenError::Critical),
        (r#"{"typ":"at+jwt","kid":"KID"}"#, fields.clone()),
        (r#"{"alg":["EdDSA"],"typ":"at+jwt","kid":"KID"}"#, fields.clone()),
        (r#"["EdDSA","at+jwt","KID",false]"#, fields.clone()),
        (r#""EdDSA""#, fields),
        (r#"{"alg":"EdDSA","typ":"at+jwt"}"#, digits.clone()),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"3"}"#, digits.clone()),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"../../etc/passwd"}"#, digits.clone()),
        (r#"{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"KID"}"#, twice.clone()),
        (r#"{"alg":"none","\u0061lg":"EdDSA","typ":"at+jwt","kid":"KID"}"#, twice.clone()),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"KID","x":1,"x":2}"#, twice.clone()),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"KID","jwk":{"x":1,"\u0078":2}}"#, twice),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"KID","x":[[[[0]]]]}"#, deep),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"KID"} "x""#, malformed("JSON")),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"KID",}"#, malformed("JSON")),
        ("{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"KID\u{1}\"}", malformed("JSON")),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"\ud800"}"#, malformed("JSON")),
        ("", malformed("JSON")),
    ] {
        assert_eq!(world.refused_header(&header.replace("KID", &kid)), expected, "{header}");
    }
    let upper = world.header().to_string().replace(&kid, &kid.to_uppercase());
    assert_eq!(world.refused_header(&upper), digits);
    // The name of a member may be spelled with escapes, as JSON allows, as long as it comes once.
    let escaped = format!(r#"{{"\u0061lg":"EdDS\u0041","typ":"at+jwt","kid":"{kid}"}}"#);
    assert!(parse_and_verify(&world.forge(&escaped, &honest_json()), &world.keys).is_ok());
}

#[test]
fn too_much_is_refused_before_it_is_looked_at() {
    let world = World::new();
    let huge = "A".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(world.refusal(&huge).code(), "TOKEN_TOO_LARGE");
    let wide =
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": world.kid(), "x": "x".repeat(TOKEN_HEADER_BYTES_MAX)});
    assert_eq!(world.refused_header(&wide.to_string()).code(), "TOKEN_TOO_LARGE");
    let members: Vec<_> = (0..=TOKEN_JSON_MEMBERS_MAX).map(|at| format!("\"m{at}\":0")).collect();
    let fault = "too many members in one object";
    let expected = TokenError::Unsound { part: TokenPart::Claims, fault };
    assert_eq!(world.refused_claims(&format!("{{{}}}", members.join(","))), expected);
    let nested = "[".repeat(4_000);
    let expected = TokenError::Unsound { part: TokenPart::Claims, fault: "values nested too deeply" };
    assert_eq!(world.refused_claims(&nested), expected);
}

#[test]
fn what_is_no_token_is_named_so() {
    let world = World::new();
    let token = sign(&world.signer, &claims()).unwrap();
    for (text, got_parts) in [("", 1), ("a", 1), ("a.b", 2), ("a.b.c.d", 4), ("a.b.c.d.e", 5)] {
        assert_eq!(world.refusal(text), TokenError::NotAToken { got_parts }, "{text}");
    }
    for text in ["..", ". .", "é.é.é", "\0.\0.\0", "a.b.c"] {
        assert_eq!(world.refusal(text).code(), "TOKEN_MALFORMED", "{text}");
    }
    for text in
        [format!(" {token}"), format!("{token}\n"), format!("Bearer {token}"), token.replace('.', "..")]
    {
        assert_eq!(world.refusal(&text).code(), "TOKEN_MALFORMED", "{text}");
    }
}

#[test]
fn every_cut_of_a_token_is_refused() {
    let world = World::new();
    let token = sign(&world.signer, &claims()).unwrap();
    for length in 0..token.len() {
        let error = world.refusal(&token[..length]);
        assert!(matches!(error.code(), "TOKEN_MALFORMED" | "TOKEN_BAD_SIGNATURE"), "{length}: {error}");
    }
}

#[test]
fn claims_of_another_shape_are_refused_though_the_signature_holds() {
    let world = World::new();
    let changed = |change: fn(&mut Value)| {
        let mut value = honest_value();
        change(&mut value);
        world.refused_claims(&value.to_string())
    };
    let claim = |claim, expected| TokenError::Claim { claim, expected };
    let subject = "spiffe://<cluster>/<haltline.path>/<haltline.instance>";
    assert_eq!(changed(|value| value["cnf"] = json!({"jkt": "x"})), TokenError::Bound);
    assert_eq!(changed(|value| value["cnf"] = Value::Null), TokenError::Bound);
    let swap = |value: &mut Value| {
        value["sub"] = value["sub"].as_str().unwrap().replace("reconciler", "payer").into();
    };
    assert_eq!(changed(swap), claim("sub", subject));
    assert_eq!(
        changed(|value| value["sub"] = json!("https://x/y")),
        claim("sub", "a SPIFFE ID of this cluster")
    );
    assert_eq!(
        changed(|value| value["client_id"] = json!("acme/x")),
        claim("client_id", "the same as `haltline.path`")
    );
    assert_eq!(changed(|value| value["haltline"]["depth"] = json!(0)).code(), "TOKEN_CLAIM");
    assert_eq!(changed(|value| value["haltline"]["lineage"] = json!([])).code(), "TOKEN_CLAIM");
    assert_eq!(changed(|value| value["haltline"]["path"] = json!("../x")).code(), "TOKEN_CLAIM");
    assert_eq!(changed(|value| value["haltline"]["task"] = json!("\u{1b}[2J")).code(), "TOKEN_CLAIM");
    assert_eq!(changed(|value| value["scope"] = json!("a  b")).code(), "TOKEN_CLAIM");
    assert_eq!(changed(|value| value["iss"] = json!("")).code(), "TOKEN_CLAIM");
    let node = changed(|value| value["haltline"]["node"] = json!(4));
    assert_eq!(node, TokenError::WrongNode { claimed: NodeId(4), signed: NODE });
    let long = vec!["01010101010101010101010101010101"; TOKEN_LINEAGE_MAX + 1];
    let mut value = honest_value();
    value["haltline"]["lineage"] = json!(long);
    value["haltline"]["depth"] = json!(TOKEN_LINEAGE_MAX);
    assert_eq!(
        world.refused_claims(&value.to_string()),
        claim("haltline.lineage", "1 to 9 grants, the own one last")
    );

    let shape = TokenError::Malformed {
        part: TokenPart::Claims,
        expected: "the claims of an access token of this system",
    };
    assert_eq!(changed(|value| value["aud"] = json!(["a", "b"])), shape);
    assert_eq!(changed(|value| value["exp"] = json!(-1)), shape);
    assert_eq!(changed(|value| value["exp"] = json!(1.5)), shape);
    assert_eq!(changed(|value| value["exp"] = json!("1795461780")), shape);
    assert_eq!(changed(|value| value["jti"] = json!("07070707-0707-0707-0707-070707070707")), shape);
    assert_eq!(changed(|value| value["haltline"] = json!(["acme/a", "x", [], 0, "", 0, 0, 0, 0])), shape);
    for missing in ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "haltline"] {
        let mut value = honest_value();
        value.as_object_mut().unwrap().remove(missing);
        assert_eq!(world.refused_claims(&value.to_string()), shape, "{missing}");
    }
    let twice = honest_json().replacen('{', r#"{"exp":99999999999,"#, 1);
    let expected = TokenError::Unsound { part: TokenPart::Claims, fault: "one name twice in one object" };
    assert_eq!(world.refused_claims(&twice), expected);
    let inner = honest_json().replacen(r#""depth":1"#, r#""depth":1,"\u0065nds":99999999999"#, 1);
    assert_eq!(world.refused_claims(&inner), expected);
}

#[test]
fn unknown_claims_are_ignored_and_escapes_are_read() {
    let world = World::new();
    let mut value = honest_value();
    value["status"] = json!({"status_list": {"idx": 0, "uri": "https://example.com"}});
    value["act"] = json!({"sub": "x"});
    let json = value.to_string().replace("reconciler", "\\u0072econciler");
    let token = world.forge(&world.header().to_string(), &json);
    assert_eq!(parse_and_verify(&token, &world.keys).unwrap().claims, claims());
}

#[test]
fn the_largest_credential_fits_and_one_byte_more_does_not() {
    let world = World::new();
    let segment = "s".repeat(60);
    let path = format!("{}/{}", "a".repeat(PATH_BYTES_MAX - 4 * 61 - 1), [&*segment; 4].join("/"));
    let text = "\"".repeat(TEXT_BYTES_MAX);
    let mut scope: Vec<_> = (0..15)
        .map(|at: usize| format!("{at:02}{}", "\\".repeat(PATTERN_BYTES_MAX - 2)).parse().unwrap())
        .collect();
    // 15 patterns of 128 and a space each make 1935; the last one takes what is left.
    let rest = TOKEN_SCOPE_BYTES_MAX - 15 * (PATTERN_BYTES_MAX + 1);
    scope.push("x".repeat(rest).parse().unwrap());
    let largest = Claims {
        issuer: text.parse().unwrap(),
        audience: text.parse().unwrap(),
        agent: path.parse().unwrap(),
        lineage: (0..TOKEN_LINEAGE_MAX).map(|at| GrantId([at as u8; 16])).collect(),
        task: text.parse().unwrap(),
        scope: scope.clone(),
        issued_at: UnixSeconds(u64::MAX),
        expires_at: UnixSeconds(u64::MAX),
        ends: ClusterTime::NEVER,
        index: LogIndex(u64::MAX),
        incarnation: Incarnation(u64::MAX),
        ..claims()
    };
    let token = sign(&world.signer, &largest).unwrap();
    assert_eq!(parse_and_verify(&token, &world.keys).unwrap().claims, largest);

    let mut wider = scope;
    let last = wider.last_mut().unwrap();
    *last = format!("{last}x").parse().unwrap();
    let error = sign(&world.signer, &Claims { scope: wider.clone(), ..largest.clone() }).unwrap_err();
    assert!(matches!(error, TokenError::Claim { claim: "scope", .. }), "{error}");
    assert_eq!(check_request(&largest.scope, &largest.audience), Ok(()));
    assert_eq!(check_request(&wider, &largest.audience), Err(error));
    assert!(matches!(check_request(&[], &Text::default()), Err(TokenError::Claim { claim: "aud", .. })));
    let lineage = vec![GrantId([0; 16]); TOKEN_LINEAGE_MAX + 1];
    let error = sign(&world.signer, &Claims { lineage, ..largest.clone() }).unwrap_err();
    assert!(matches!(error, TokenError::Claim { claim: "haltline.lineage", .. }), "{error}");
    let error = sign(&world.signer, &Claims { lineage: Vec::new(), ..largest }).unwrap_err();
    assert!(matches!(error, TokenError::Claim { claim: "haltline.lineage", .. }), "{error}");
}

#[test]
fn a_token_is_for_its_audience() {
    let claims = claims();
    let audience = claims.audience.to_string();
    assert_eq!(claims.check_audience(&["x", &audience]), Ok(()));
    let error = claims.check_audience(&["x", "y"]).unwrap_err();
    assert_eq!(error.code(), "TOKEN_WRONG_AUDIENCE");
    assert_eq!(
        error.to_string(),
        format!("the token is for `{audience}`, and this is `x` or `y`; ask for one with the right audience")
    );
    assert!(claims.check_audience(&[]).is_err());
}

#[test]
fn weak_keys_and_too_many_are_not_taken_in() {
    // The identity, a point of order 2, and the encoding of no point at all.
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut order_two = [0xff; 32];
    (order_two[0], order_two[31]) = (0xec, 0x7f);
    let mut no_point = [0; 32];
    no_point[0] = 2;
    for key in [identity, order_two, [0; 32], no_point] {
        let error = VerifyingKeys::new([(NODE, PublicKey(key))]).unwrap_err();
        assert_eq!(error.code(), "pki_malformed", "{key:?}");
    }
    let key = |_| (NODE, StatementSigner::generate().unwrap().public_key());
    let error = VerifyingKeys::new((0..=TOKEN_KEYS_MAX).map(key)).unwrap_err();
    assert_eq!(error.code(), "pki_too_many");
}

#[test]
fn a_token_is_no_statement_and_shows_in_no_message() {
    let world = World::new();
    let token = sign(&world.signer, &claims()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    assert!(!signed.contains('/'), "statements begin with haltline/");
    let signature = base64url::decode_exact(signature).unwrap();
    assert!(verify_statement(&world.signer.public_key(), signed.as_bytes(), &signature));
    let stranger = World::new();
    for error in
        [stranger.refusal(&token), world.refusal(&token[..token.len() - 1]), world.refusal(&token[1..])]
    {
        let shown = format!("{error} {error:?}");
        for part in token.split('.') {
            assert!(!shown.contains(&part[..20]), "{shown}");
        }
    }
}

/// Values for every claim within its bounds.
fn any_claims() -> impl Strategy<Value = Claims> {
    let ids = (
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        proptest::collection::vec(any::<[u8; 16]>(), 1..=TOKEN_LINEAGE_MAX),
    );
    let texts = (
        "[ -~äß€\n\t]{1,60}",
        "[ -~𝕏]{1,60}",
        "[ -~é\n]{0,80}",
        "[a-z0-9][a-z0-9._-]{0,8}(/[a-z0-9][a-z0-9._-]{0,8}){1,5}",
    );
    let scope = proptest::collection::vec("[!-~]{1,20}", 0..8);
    let numbers = any::<[u64; 5]>();
    (ids, texts, scope, numbers).prop_map(
        |((cluster, credential, instance, lineage), (issuer, audience, task, agent), scope, numbers)| {
            Claims {
                issuer: issuer.parse().unwrap(),
                audience: audience.parse().unwrap(),
                cluster: ClusterId(cluster),
                credential: CredentialId(credential),
                agent: agent.parse().unwrap(),
                instance: InstanceId(instance),
                lineage: lineage.into_iter().map(GrantId).collect(),
                task: task.parse().unwrap(),
                scope: scope.iter().map(|pattern| pattern.parse().unwrap()).collect(),
                issued_at: UnixSeconds(numbers[0]),
                expires_at: UnixSeconds(numbers[1]),
                ends: ClusterTime(numbers[2]),
                index: LogIndex(numbers[3]),
                incarnation: Incarnation(numbers[4]),
                node: NODE,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_claims_come_back_as_they_went(claims in any_claims()) {
        let world = World::new();
        let token = sign(&world.signer, &claims).unwrap();
        prop_assert_eq!(parse_and_verify(&token, &world.keys).unwrap().claims, claims);
    }

    #[test]
    fn a_token_has_one_text(claims in any_claims(), at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
        let world = World::new();
        let token = sign(&world.signer, &claims).unwrap();
        let at = at.index(token.len());
        let mut bytes = token.clone().into_bytes();
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert!(parse_and_verify(&changed, &world.keys).is_err(), "byte {at} of {token} as {changed}");
    }

    #[test]
    fn whatever_comes_there_is_an_answer(text in "\\PC{0,400}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,120}", 1..6)) {
        let world = World::new();
        prop_assert!(parse_and_verify(&text, &world.keys).is_err());
        prop_assert!(parse_and_verify(&parts.join("."), &world.keys).is_err());
    }

    #[test]
    fn whatever_a_node_signs_there_is_an_answer(header in any_json(), claims in any_json()) {
        let world = World::new();
        prop_assert!(parse_and_verify(&world.forge(&header, &honest_json()), &world.keys).is_err());
        let error = world.refused_claims(&claims);
        prop_assert!(matches!(error.code(), "TOKEN_MALFORMED" | "TOKEN_CLAIM"), "{error}");
    }
}

/// Texts that are JSON or nearly.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "[ -~]{0,8}".prop_map(|text| Value::from(text).to_string()),
        Just("\"\\ud83d\"".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let name = prop_oneof![
            Just("alg"),
            Just("typ"),
            Just("kid"),
            Just("haltline"),
            Just("exp"),
            Just("\\u0061lg")
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(|list| format!("[{}]", list.join(","))),
            proptest::collection::vec((name, inner), 0..5).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}
