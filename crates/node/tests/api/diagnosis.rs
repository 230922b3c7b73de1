//! What a node tells of itself to those who look after it.

use haltline_wire::v1::{self, cluster_service_client::ClusterServiceClient};

use crate::harness::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_says_what_a_doctor_compares() {
    let cluster = Cluster::start().await;
    let mut client = ClusterServiceClient::new(cluster.ada().await.channel);
    let first = client.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((first.timing_profile.as_str(), first.data_format), ("lan", haltline_storage::DATA_FORMAT));
    let ends = cluster.admin.tls().leaf().validity.not_after;
    assert!(first.certificate_ends_unix_s.abs_diff(ends.0) < 60, "made in the same minute as the admin's");
    assert!(first.wall_time_ms > 1_600_000_000_000);
    let second = client.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert!(second.boot_clock_us > first.boot_clock_us);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_looks_at_its_machine_once_for_all_who_ask() {
    let cluster = Cluster::start().await;
    let client = ClusterServiceClient::new(cluster.ada().await.channel);
    let ask = || {
        let mut client = client.clone();
        async move { client.diagnose_node(v1::DiagnoseNodeRequest {}).await.unwrap().into_inner() }
    };
    let (one, other) = tokio::join!(ask(), ask());
    assert_eq!(one, other, "latencies differ from look to look");
    assert_eq!(one.node_id, 1);
    for check in ["disk", "sync-latency", "space", "descriptors", "clock-rate", "wall-clock"] {
        assert!(one.findings.iter().any(|finding| finding.check == check), "{check} is missing: {one:?}");
    }
    let descriptors = one.findings.iter().find(|finding| finding.check == "descriptors").unwrap();
    assert_eq!(descriptors.subject, format!("process {}", std::process::id()));
    let left: Vec<_> = std::fs::read_dir(&cluster.config.data_dir).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().contains("probe")), "{left:?}");
    cluster.stop().await;
}
