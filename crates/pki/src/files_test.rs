//! Every file of an identity there and back, and what happens when one is wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use haltline_core::ids::{ClusterId, NodeId, PersonId};

use crate::{
    ClusterPki, Endpoint, IssuedPerson, NewNode, NodeIdentity, PendingPerson, PersonIdentity, PersonRequest,
    PkiError, TrustBundle, Validity, spki_hash_of_cert,
    test_cluster::{ada, cluster, person},
};

fn modes(directory: &Path) -> Vec<(String, u32)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(
                modes(&entry.path()).into_iter().map(|(file, mode)| (format!("{name}/{file}"), mode)),
            );
        }
        files.push((name, mode));
    }
    files.sort();
    files
}

#[test]
fn a_node_round_trips_with_private_keys_private_and_no_root_key() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node-1");
    let cluster = cluster(Validity::leaf());
    let node = &cluster.nodes()[0];
    node.save(&directory).unwrap();
    let expected = [
        ("ca", 0o700),
        ("ca/edge.crt", 0o644),
        ("ca/edge.key", 0o600),
        ("ca/node.crt", 0o644),
        ("ca/node.key", 0o600),
        ("ca/person.crt", 0o644),
        ("ca/person.key", 0o600),
        ("signing.key", 0o600),
        ("tls.crt", 0o644),
        ("tls.key", 0o600),
        ("trust.json", 0o644),
    ];
    assert_eq!(modes(&directory), expected.map(|(name, mode)| (name.to_owned(), mode)));
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o700);

    let loaded = NodeIdentity::load(&directory).unwrap();
    assert_eq!(loaded.id(), NodeId(1));
    assert_eq!(loaded.trusted(), node.trusted());
    assert_eq!(loaded.bundle(), node.bundle());
    assert_eq!(loaded.tls().leaf(), node.tls().leaf());
    assert_eq!(loaded.bundle().nodes()[&NodeId(1)], loaded.trusted());

    // What was loaded can still issue, and renew itself in place.
    let pending = PendingPerson::create(&ada()).unwrap();
    let bundle = loaded.bundle();
    let issued = loaded.issuers().issue_person(pending.request(), Validity::leaf(), bundle, vec![]).unwrap();
    pending.complete(&issued).unwrap();
    let renewed = loaded.renewed(Validity::leaf()).unwrap();
    renewed.save_certificate(&directory).unwrap();
    assert_eq!(NodeIdentity::load(&directory).unwrap().trusted(), node.trusted());

    assert!(matches!(node.save(&directory), Err(PkiError::Exists { path }) if path.ends_with("tls.key")));
}

#[test]
fn the_root_goes_to_a_place_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let cluster = cluster(Validity::leaf());
    cluster.save_root(home.path()).unwrap();
    assert_eq!(modes(home.path()), [("root.crt".to_owned(), 0o644), ("root.key".to_owned(), 0o600)]);
    assert!(matches!(cluster.save_root(home.path()), Err(PkiError::Exists { .. })));
    let root = crate::issuer::CertificateAuthority::load(home.path(), "root").unwrap();
    assert_eq!(cluster.bundle().roots(), std::slice::from_ref(root.certificate()));
}

#[test]
fn a_person_round_trips() {
    let home = tempfile::tempdir().unwrap();
    let cluster = cluster(Validity::leaf());
    let endpoints: Vec<Endpoint> = vec![
        "localhost:7001".parse().unwrap(),
        "[::1]:7002".parse::<Endpoint>().unwrap().expecting(NodeId(2)),
    ];
    let person = cluster.create_person(&ada(), endpoints.clone(), Validity::leaf()).unwrap();
    person.save(home.path()).unwrap();
    let private: Vec<_> = modes(home.path()).into_iter().filter(|(_, mode)| *mode == 0o600).collect();
    assert_eq!(private, [("signing.key".to_owned(), 0o600), ("tls.key".to_owned(), 0o600)]);
    let loaded = PersonIdentity::load(home.path()).unwrap();
    assert_eq!(loaded.person(), &ada());
    assert_eq!(loaded.endpoints(), endpoints);
    assert_eq!(loaded.keys(), person.keys());
    assert_eq!(loaded.bundle(), cluster.bundle());
}

#[test]
fn a_person_enrols_without_a_private_key_leaving_home() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = cluster(Validity::leaf());
    let pending = PendingPerson::create(&ada()).unwrap();
    pending.save(theirs.path()).unwrap();

    // The request travels as a file.
    let request_file = ours.path().join("ada.json");
    fs::copy(theirs.path().join("request.json"), &request_file).unwrap();
    let text = fs::read_to_string(&request_file).unwrap();
    assert!(!text.contains("PRIVATE"), "{text}");
    let request = PersonRequest::load(&request_file).unwrap();
    assert_eq!(&request, pending.request());
    let verified = request.verify().unwrap();
    let endpoints = vec!["localhost:7001".parse().unwrap()];
    let issued =
        cluster.issuers().issue_person(&request, Validity::leaf(), cluster.bundle(), endpoints).unwrap();
    issued.save(&ours.path().join("issued.json")).unwrap();

    // The answer travels back.
    let issued = IssuedPerson::load(&ours.path().join("issued.json")).unwrap();
    assert_eq!(issued.bundle().hash(), cluster.bundle().hash());
    let identity = PendingPerson::load(theirs.path()).unwrap().complete(&issued).unwrap();
    identity.save_public(theirs.path()).unwrap();
    let loaded = PersonIdentity::load(theirs.path()).unwrap();
    assert_eq!(loaded.keys(), (verified.tls_key, verified.signing_key));
    let chain = crate::certificate::chain_from_pem(issued.chain_pem()).unwrap();
    assert_eq!(spki_hash_of_cert(&chain[0]).unwrap(), verified.tls_key);
}

#[test]
fn a_request_proves_both_keys_over_each_other() {
    let (mine, other) = (PendingPerson::create(&ada()).unwrap(), PendingPerson::create(&ada()).unwrap());
    let value = |pending: &PendingPerson| -> serde_json::Value {
        serde_json::from_str(&pending.request().to_json()).unwrap()
    };
    let verify = |value: &serde_json::Value| PersonRequest::from_json(&value.to_string()).unwrap().verify();
    verify(&value(&mine)).unwrap();
    // Another name, another CSR, another signing key: each breaks a proof.
    let mut changed = value(&mine);
    changed["name"] = "bob".into();
    assert!(matches!(verify(&changed), Err(PkiError::Request { .. })));
    let mut changed = value(&mine);
    changed["csr"] = value(&other)["csr"].clone();
    assert!(matches!(verify(&changed), Err(PkiError::Request { .. })));
    // My own valid proof over a CSR that I took from somebody else: the CSR names their signing key, not mine.
    let key = crate::tls_key::TlsKey::generate().unwrap();
    let signer = crate::StatementSigner::generate().unwrap();
    let own = PersonRequest::sign(&ada(), &key, &signer).unwrap();
    let stolen = PersonRequest::resigned(&own, mine.request(), &signer);
    let error = stolen.verify().unwrap_err();
    assert!(error.to_string().contains("names another signing key"), "{error}");
    // A CSR whose own signature is broken.
    let broken = PersonRequest::with_broken_csr(mine.request(), &crate::StatementSigner::generate().unwrap());
    assert!(matches!(broken.verify(), Err(PkiError::Request { .. })));
}

#[test]
fn an_answer_for_other_keys_or_another_name_is_not_taken() {
    let cluster = cluster(Validity::leaf());
    let issue = |request: &PersonRequest| {
        cluster.issuers().issue_person(request, Validity::leaf(), cluster.bundle(), vec![]).unwrap()
    };
    let (mine, other) = (PendingPerson::create(&ada()).unwrap(), PendingPerson::create(&ada()).unwrap());
    let issued = issue(other.request());
    assert!(matches!(mine.complete(&issued), Err(PkiError::KeyMismatch { .. })));
}

#[test]
fn a_key_open_to_others_stops_the_load_with_the_remedy() {
    let home = tempfile::tempdir().unwrap();
    let cluster = cluster(Validity::leaf());
    for (index, key) in ["tls.key", "signing.key", "ca/person.key"].into_iter().enumerate() {
        let directory = home.path().join(index.to_string());
        cluster.nodes()[0].save(&directory).unwrap();
        let path = directory.join(key);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = NodeIdentity::load(&directory).unwrap_err();
        assert!(matches!(&error, PkiError::Exposed { path: got, mode: 0o640 } if *got == path), "{error}");
        assert!(error.to_string().contains(&format!("`chmod 600 {}`", path.display())), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        NodeIdentity::load(&directory).unwrap();
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let (ours, theirs) = (cluster(Validity::leaf()), cluster(Validity::leaf()));
    let directory = |name: &str| home.path().join(name);
    ours.nodes()[0].save(&directory("ours")).unwrap();
    ours.nodes()[1].save(&directory("second")).unwrap();
    theirs.nodes()[0].save(&directory("theirs")).unwrap();
    person(&ours, Validity::leaf()).save(&directory("person")).unwrap();
    let swap = |file: &str, from: &str| {
        let (path, backup) = (directory("ours").join(file), home.path().join("backup"));
        fs::copy(&path, &backup).unwrap();
        fs::copy(directory(from).join(file), &path).unwrap();
        let error = NodeIdentity::load(&directory("ours")).unwrap_err();
        fs::copy(&backup, &path).unwrap();
        error
    };
    assert!(matches!(swap("tls.key", "second"), PkiError::KeyMismatch { .. }));
    assert!(matches!(swap("trust.json", "theirs"), PkiError::WrongCluster { .. }));
    assert!(matches!(swap("ca/person.crt", "theirs"), PkiError::Malformed { .. }));
    assert!(matches!(NodeIdentity::load(&directory("person")), Err(PkiError::WrongRole { .. })));
    assert!(matches!(PersonIdentity::load(&directory("ours")), Err(PkiError::WrongRole { .. })));
    NodeIdentity::load(&directory("ours")).unwrap();
}

#[test]
fn a_damaged_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    cluster(Validity::leaf()).nodes()[0].save(home.path()).unwrap();
    for file in ["tls.crt", "tls.key", "signing.key", "trust.json", "ca/edge.crt", "ca/edge.key"] {
        let path = home.path().join(file);
        let content = fs::read(&path).unwrap();
        for damage in [&content[..content.len() / 2], b"", b"hello"] {
            fs::write(&path, damage).unwrap();
            let error = NodeIdentity::load(home.path()).unwrap_err();
            assert_eq!(error.code(), "pki_malformed", "{file}: {error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{file}: {error}");
        }
        fs::remove_file(&path).unwrap();
        let error = NodeIdentity::load(home.path()).unwrap_err();
        assert!(matches!(&error, PkiError::Io { path: got, .. } if *got == path), "{file}: {error}");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    NodeIdentity::load(home.path()).unwrap();
}

#[test]
fn a_trust_bundle_has_one_form_and_one_hash() {
    let cluster = cluster(Validity::leaf());
    let bundle = cluster.bundle();
    let again = TrustBundle::from_json(&bundle.to_json()).unwrap();
    assert_eq!(&again, bundle);
    assert_eq!(again.canonical_bytes(), bundle.canonical_bytes());
    assert_eq!(bundle.majority(), 2);
    // Roots in another order, or twice, are the same bundle; anything else isn't.
    let other = super::test_cluster::cluster(Validity::leaf());
    let roots = [bundle.roots()[0].clone(), other.bundle().roots()[0].clone()];
    let make = |roots: Vec<_>, version, nodes| {
        TrustBundle::new(bundle.cluster(), haltline_core::ids::Version(version), roots, nodes).unwrap()
    };
    let nodes = bundle.nodes().clone();
    let forward = make(roots.to_vec(), 1, nodes.clone());
    let backward = make(roots.iter().rev().chain(&roots).cloned().collect(), 1, nodes.clone());
    assert_eq!(forward.hash(), backward.hash());
    let mut fewer = nodes.clone();
    fewer.remove(&NodeId(2));
    for changed in [make(roots.to_vec(), 2, nodes), make(roots.to_vec(), 1, fewer), bundle.clone()] {
        assert_ne!(changed.hash(), forward.hash());
    }
}

#[test]
fn bad_bundles_and_requests_say_what_is_wrong() {
    let good = cluster(Validity::leaf()).bundle().to_json();
    let damaged = [
        (good.replace("\"format\": 1", "\"format\": 2"), "format 1, got 2"),
        (good.replace("\"cluster\": \"", "\"cluster\": \"x"), "cluster id"),
        (good.replace("\"version\"", "\"versoin\""), "versoin"),
        (good.replace("BEGIN CERT", "BEGIN SERT"), "PEM"),
        (String::new(), "JSON"),
    ];
    for (text, expected) in damaged {
        let error = TrustBundle::from_json(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for text in ["", "{}", "[1]", "{\"format\":1,\"name\":\"Not a name\"}"] {
        assert!(matches!(PersonRequest::from_json(text), Err(PkiError::Malformed { .. })));
        assert!(matches!(IssuedPerson::from_json(text), Err(PkiError::Malformed { .. })));
    }
}

#[test]
fn bad_input_to_init_is_refused() {
    let node = |id, host: &str| NewNode { id: NodeId(id), hosts: vec![host.into()] };
    let create = |nodes: &[NewNode]| ClusterPki::create(nodes).unwrap_err();
    assert!(matches!(create(&[node(1, "a"), node(1, "b")]), PkiError::Duplicate(_)));
    assert!(matches!(create(&[node(1, "no host")]), PkiError::Host { got } if got == "no host"));
    let many = vec![String::from("a.example.com"); haltline_core::limits::CERTIFICATE_HOSTS_MAX];
    let crowded = NewNode { id: NodeId(1), hosts: many };
    assert!(matches!(create(&[crowded]), PkiError::TooMany { max: 32, .. }));
    let crowd: Vec<_> = (0..=haltline_core::limits::NODES_MAX as u64).map(|id| node(id, "a")).collect();
    assert!(matches!(create(&crowd), PkiError::TooMany { what: "nodes", .. }));
}

#[test]
fn clusters_differ() {
    let ids: std::collections::BTreeSet<ClusterId> =
        (0..3).map(|_| ClusterPki::create(&[]).unwrap().cluster()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.to_string().len() == 32));
    let name: PersonId = "ada@example.com".parse().unwrap();
    let cluster = ClusterPki::create(&[]).unwrap();
    let person = cluster.create_person(&name, vec![], Validity::leaf()).unwrap();
    assert_eq!(person.tls().leaf().subject.to_string(), "person ada@example.com");
}
