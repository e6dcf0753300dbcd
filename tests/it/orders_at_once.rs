//! Orders and hands that change the bay at the same time: nothing is lost, and each caller gets an answer.

use hotbay_tests::{Host, How, guests};
use std::{collections::BTreeMap, fs, sync::Arc};

const SERVICES: u32 = 20;
const CLIENTS: u32 = 5;

/// Of the others only the settings are written by hand.
fn is_built_by_hand(service: u32) -> bool {
    service.is_multiple_of(2)
}

fn name(service: u32) -> String {
    format!("probe{service}")
}

/// Guards that orders and looks at the bay go through one task a service (`Swaps` in host/src/deploy/swap.rs).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_services_are_swapped_by_five_clients_while_the_bay_is_touched_by_hand() {
    let mut builder = Host::builder();
    for service in 0..SERVICES {
        builder = builder.service(&name(service), &guests::revision("marker", 0));
    }
    let host = Arc::new(builder.start().await);
    let mark = host.mark();
    let clients = (1..=CLIENTS).map(|client| {
        let host = host.clone();
        tokio::spawn(async move {
            let (admin, mut answers) = (host.admin(), BTreeMap::<String, u32>::new());
            for service in 0..SERVICES {
                // Each begins elsewhere, so that all kinds of meetings happen.
                let service = (service + client * 4) % SERVICES;
                let build = guests::revision("marker", client);
                let answer = admin.put(&format!("/v1/services/{}", name(service)), build.clone()).await;
                let told = answer.json();
                let clear = match answer.status {
                    200 => told["revision"] == guests::digest(&build),
                    503 => !answer.header("retry-after").is_empty(),
                    _ => false,
                };
                assert!(clear, "{}: {told}\n{}", answer.status, host.told());
                *answers.entry(told["outcome"].as_str().unwrap_or("busy").to_owned()).or_default() += 1;
            }
            answers
        })
    });
    let by_hand = tokio::task::spawn_blocking({
        let host = host.clone();
        move || {
            for service in (0..SERVICES).rev() {
                let how = if service % 4 == 0 { How::Rename } else { How::Overwrite };
                if is_built_by_hand(service) {
                    host.place(&name(service), &guests::revision("marker", 100 + service), how);
                } else {
                    host.place_settings(&name(service), "[instances]\npolicy = \"reuse\"\n");
                }
            }
        }
    });
    let answers = futures::future::join_all(clients.collect::<Vec<_>>()).await;
    by_hand.await.expect("every file was written");
    for (client, answers) in answers.into_iter().enumerate() {
        println!("client {}: {:?}", client + 1, answers.expect("each got a clear answer"));
    }
    // The end state is what the bay says, as soon as the last of it has been seen.
    for service in 0..SERVICES {
        let (name, bay) = (name(service), fs::read(host.build_path(&name(service))).expect("a build"));
        let wanted = guests::digest(&bay);
        let revisions: Vec<_> = (1..=CLIENTS).map(|client| guests::digest(&guests::revision("marker", client))).collect();
        assert!(is_built_by_hand(service) || revisions.contains(&wanted), "{name}: the deploys of all clients are lost");
        let target = format!("/{name}");
        let begun = std::time::Instant::now();
        loop {
            let answer = host.get(&target).await;
            assert_eq!(answer.status, 200, "{}", host.told());
            if answer.revision() == wanted {
                break;
            }
            assert!(
                begun.elapsed() < hotbay_tests::PATIENCE,
                "{name} serves {} and not {wanted}\n{}",
                answer.revision(),
                host.told()
            );
        }
        let standing = host.admin().get(&format!("/v1/services/{name}")).await.json();
        assert_eq!(
            (&standing["serving"]["revision"], &standing["rejected"]),
            (&wanted.into(), &serde_json::Value::Null),
            "{standing}"
        );
    }
    let rejected = host.since(mark).events().into_iter().filter(|event| event.state == "rejected").count();
    assert_eq!(rejected, 0, "{}", host.told());
    // Nothing half written is left in the bay.
    let strange: Vec<_> = fs::read_dir(host.bay())
        .expect("a bay")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|file| file.contains("unfinished"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

/// Deploys of one service are carried out one after another, and each is told of its own.
#[tokio::test]
async fn deploys_of_one_service_take_their_turns() {
    let host = Host::builder().service("marker", &guests::revision("marker", 0)).start().await;
    let mark = host.mark();
    let calls = (1..=8).map(|n| {
        let admin = host.admin();
        async move {
            let build = guests::revision("marker", n);
            (guests::digest(&build), admin.put("/v1/services/marker", build).await)
        }
    });
    let answers = futures::future::join_all(calls).await;
    for (revision, answer) in &answers {
        assert_eq!((answer.status, &answer.json()["revision"]), (200, &revision.as_str().into()), "{}", answer.text());
        host.since(mark).wait_published("marker", revision).await;
    }
    let published: Vec<_> = host
        .since(mark)
        .events()
        .into_iter()
        .filter(|event| event.is("marker", "published"))
        .map(|event| event.revision)
        .collect();
    assert_eq!(published.len(), answers.len(), "{published:?}");
    let bay = fs::read(host.build_path("marker")).expect("a build");
    assert_eq!(Some(&guests::digest(&bay)), published.last());
    assert_eq!(host.get("/marker").await.revision(), guests::digest(&bay));
}
