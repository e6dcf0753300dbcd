//! Settings, environment variables and secrets that services are granted: there under their names, anew where they change, and
//! secrets nowhere else.

use hotbay_tests::{Builder, Host, How, guests, host::ask as command};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

const SETTINGS: &str = "[grants]\nconfig = { page_size = '20' }\nenv = { LOG_LEVEL = 'info' }\nsecrets = ['db_password']\n";
const VALUE: &str = "hush-4f1c";

fn secrets(builder: &Builder) -> PathBuf {
    builder.bay_path().join(".hotbay").join("secrets")
}

fn put(folder: &Path, name: &str, value: &str, mode: u32) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).expect("a folder");
    let temporary = folder.join(".new");
    fs::write(&temporary, value).expect("a secret");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)).expect("a mode");
    fs::rename(&temporary, folder.join(name)).expect("a name");
}

/// A keeper with settings and the folder of its secrets.
fn keeper(settings: &str) -> (Builder, PathBuf) {
    let builder = Host::builder().own_state().service("keeper", &guests::fixture("keeper")).settings("keeper", settings);
    let folder = secrets(&builder);
    (builder, folder)
}

async fn ask(host: &Host, target: &str) -> String {
    let answer = host.get(target).await;
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.text()
}

#[tokio::test]
async fn what_is_granted_is_there_under_its_name_and_nothing_else() {
    let (builder, folder) = keeper(SETTINGS);
    put(&folder, "db_password", &format!("{VALUE}\n"), 0o600);
    put(&folder, "other", "of another service", 0o600);
    let host = builder.service("bare", &guests::fixture("keeper")).env("PATH_OF_THE_HOST", "x").start().await;
    for (asked, answer) in [
        ("config?page_size", "20"),
        ("config?LOG_LEVEL", "none"),
        ("config?other", "none"),
        ("secret?db_password", VALUE),
        ("secret?other", "none"),
        ("config-all", "db_password,page_size"),
        ("env?LOG_LEVEL", "info"),
        ("env?db_password", "none"),
        ("env-all", "LOG_LEVEL"),
    ] {
        assert_eq!(ask(&host, &format!("/keeper/{asked}")).await, answer, "{asked}");
    }
    assert_eq!(ask(&host, "/bare/config-all").await + &ask(&host, "/bare/env-all").await, "");
    let told = command(&host, ["ps", "keeper"]).await.stdout;
    for grant in ["config page_size", "env LOG_LEVEL", "secret db_password"] {
        assert!(told.contains(grant), "{told}");
    }
    let build = host.build_path("keeper");
    let checked = command(&host, ["history", "keeper", "--json"]).await.stdout;
    assert!(checked.contains("db_password"), "{checked}");
    let checked = hotbay_tests::host::finish(hotbay_tests::host::hotbay(["check", build.to_str().expect("a path")])).await;
    assert!(checked.code == Some(0) && checked.stdout.contains("secret db_password"), "{}{}", checked.stdout, checked.stderr);
}

#[tokio::test]
async fn a_command_has_its_variables_beside_those_of_its_request() {
    let command = guests::fixture("run");
    let granted = "[grants]\nenv = { LOG_LEVEL = 'info', PATH = '/bin' }\n";
    let host = Host::builder().service("run", &command).settings("run", granted).start().await;
    let answer = ask(&host, "/run/env?a=b").await;
    for line in ["LOG_LEVEL=info", "PATH=/bin", "QUERY_STRING=a=b", "REQUEST_METHOD=GET"] {
        assert_eq!(answer.lines().filter(|found| *found == line).count(), 1, "{line} in {answer}");
    }
    for name in ["QUERY_STRING", "REMOTE_USER", "HTTP_PROXY", "CONTENT_LENGTH"] {
        let since = host.mark();
        host.place_settings("run", &format!("[grants]\nenv = {{ {name} = 'forged' }}\n"));
        let rejected = host.since(since).wait_rejected("run").await;
        assert!(rejected.reason.contains(name) && rejected.remedy.contains("CGI"), "{rejected:?}");
    }
    assert_eq!(ask(&host, "/run/env").await.lines().filter(|line| line.contains("forged")).count(), 0);
}

#[tokio::test]
async fn a_secret_that_is_missing_or_open_rejects_the_revision_until_it_is_right() {
    let (builder, folder) = keeper(SETTINGS);
    let host = builder.start().await;
    let missing = host.wait_rejected("keeper").await;
    let file = folder.join("db_password").display().to_string();
    assert!(missing.reason.contains("`db_password` is missing") && missing.reason.contains(&file), "{missing:?}");
    assert!(missing.remedy.contains("0600"), "{missing:?}");
    let since = host.mark();
    put(&folder, "db_password", VALUE, 0o640);
    let open = host.since(since).wait_rejected("keeper").await;
    assert!(open.reason.contains("mode 640") && open.remedy.contains(&format!("chmod 600 {file}")), "{open:?}");
    let since = host.mark();
    let real = host.folder().join("real");
    fs::write(&real, VALUE).expect("a file");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).expect("a mode");
    symlink(&real, folder.join(".link")).expect("a link");
    fs::rename(folder.join(".link"), folder.join("db_password")).expect("a name");
    let link = host.since(since).wait_rejected("keeper").await;
    assert!(link.remedy.contains("no link"), "{link:?}");
    let since = host.mark();
    put(&folder, "db_password", VALUE, 0o600);
    host.since(since).wait_for("keeper", "published").await;
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, VALUE);
}

#[tokio::test]
async fn a_secret_that_changes_makes_a_new_revision() {
    let (builder, folder) = keeper(SETTINGS);
    put(&folder, "db_password", "first", 0o600);
    let host = builder.service("bare", &guests::fixture("keeper")).start().await;
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, "first");
    let since = host.mark();
    put(&folder, "db_password", "second", 0o600);
    host.since(since).wait_for("keeper", "published").await;
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, "second");
    // Those that are granted none are left alone, and one that is taken away takes nothing away.
    assert_eq!(host.since(since).states("bare"), [""; 0]);
    let since = host.mark();
    fs::remove_file(folder.join("db_password")).expect("the secret");
    let rejected = host.since(since).wait_rejected("keeper").await;
    assert!(rejected.reason.contains("missing"), "{rejected:?}");
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, "second");
    let since = host.mark();
    put(&folder, "db_password", "third", 0o600);
    host.since(since).wait_for("keeper", "published").await;
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, "third");
}

#[tokio::test]
async fn what_serves_beside_a_broken_build_gets_new_secrets_too() {
    let (builder, folder) = keeper(SETTINGS);
    put(&folder, "db_password", "first", 0o600);
    let host = builder.start().await;
    host.place("keeper", &guests::text("trap-in-start"), How::Rename);
    host.wait_rejected("keeper").await;
    let since = host.mark();
    put(&folder, "db_password", "second", 0o600);
    host.since(since).wait_for("keeper", "published").await;
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, "second");
    // The broken one is still what is told of the bay, and a whole one takes over.
    let since = host.mark();
    host.place("keeper", &guests::revision("keeper", 2), How::Rename);
    host.since(since).wait_published("keeper", &guests::digest(&guests::revision("keeper", 2))).await;
    assert_eq!(
        ask(&host, "/keeper/marker").await + &ask(&host, "/keeper/secret?db_password").await,
        guests::marker(2) + "second"
    );
}

#[tokio::test]
async fn a_secret_is_nowhere_but_in_its_guest() {
    let (builder, folder) = keeper(SETTINGS);
    put(&folder, "db_password", VALUE, 0o600);
    let host = builder.dev().log("trace").start().await;
    let admin = host.admin();
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, VALUE);
    let mut answered = Vec::new();
    // What goes well, what is refused, what is rejected with the secret in the hand, and what changes.
    let since = host.mark();
    host.place("keeper", &guests::text("trap-in-start"), How::Rename);
    host.since(since).wait_rejected("keeper").await;
    answered.push(admin.put("/v1/services/keeper", guests::text("trap-in-start")).await.text());
    answered.push(admin.put("/v1/services/keeper", guests::revision("keeper", 3)).await.text());
    let since = host.mark();
    put(&folder, "db_password", &format!("{VALUE}-and-more"), 0o600);
    host.since(since).wait_for("keeper", "published").await;
    let since = host.mark();
    fs::set_permissions(folder.join("db_password"), fs::Permissions::from_mode(0o604)).expect("a mode");
    host.since(since).wait_rejected("keeper").await;
    answered.push(host.get("/keeper/nothing").await.text());
    for page in ["/v1/services", "/v1/services/keeper", "/v1/services/keeper/history", "/metrics", "/v1/openapi.json"] {
        answered.push(admin.get(page).await.text());
    }
    for args in [["ps", "keeper"], ["history", "keeper"], ["ps", "--json"], ["events", "--help"]] {
        let ended = command(&host, args).await;
        answered.extend([ended.stdout, ended.stderr]);
    }
    answered.push(host.stdout());
    answered.extend(host.events().into_iter().map(|event| format!("{}{}", event.message, event.fields)));
    for text in &answered {
        assert!(!text.contains(VALUE), "{text}");
    }
    let mut folders = vec![host.bay().to_owned()];
    let mut files = 0;
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(&inside).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry == folder {
                continue;
            }
            match entry.is_dir() {
                true => folders.push(entry),
                false => {
                    let found = fs::read(&entry).unwrap_or_default();
                    assert!(!found.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()), "{}", entry.display());
                    files += 1;
                }
            }
        }
    }
    assert!(files > 3, "{files} files were looked at");
}

#[tokio::test]
async fn a_secret_may_come_from_the_environment_of_the_host_and_a_file_wins() {
    let (builder, folder) = keeper(SETTINGS);
    let host = builder.env("HOTBAY_SECRET_DB_PASSWORD", VALUE).env("HOTBAY_SECRET_OTHER", "x").log("trace").start().await;
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, VALUE);
    assert_eq!(ask(&host, "/keeper/secret?other").await + &ask(&host, "/keeper/env-all").await, "noneLOG_LEVEL");
    let told = command(&host, ["ps", "keeper", "--json"]).await.stdout;
    assert!(told.contains("db_password") && !told.contains(VALUE), "{told}");
    assert!(!host.told().contains(VALUE), "{}", host.told());
    let since = host.mark();
    put(&folder, "db_password", "of the file", 0o600);
    host.since(since).wait_for("keeper", "published").await;
    assert_eq!(ask(&host, "/keeper/secret?db_password").await, "of the file");
}
