//! A browser of a test's own: Debian's Chromium without a window, driven by WebDriver, gone when the test is over.

use crate::{PATIENCE, client::Request};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// It asks nobody but the host, and shows no window.
const FLAGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
];

/// Time between two looks at a page: it has no way to call.
const LOOK: Duration = Duration::from_millis(40);

/// By this name WebDriver tells elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running browser with one page. Dropping it ends it, and all its processes: Chromium does not end with a driver that is killed.
pub struct Browser {
    driver: SocketAddr,
    session: String,
    process: Child,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // They may have ended by themselves.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Keys that are no text.
#[derive(Debug, Clone, Copy)]
pub enum Key {
    /// Goes to the next that takes the focus.
    Tab,
    /// Does what has the focus.
    Enter,
    /// Closes.
    Escape,
}

impl Key {
    fn text(self) -> &'static str {
        match self {
            Self::Tab => "\u{e004}",
            Self::Enter => "\u{e007}",
            Self::Escape => "\u{e00c}",
        }
    }
}

/// Control and A, and Control let go.
const SELECT_ALL: &str = "\u{e009}a\u{e000}";

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

impl Browser {
    /// Starts one; none, with a line that says so, where there is no Chromium.
    pub async fn start() -> Option<Self> {
        let (Some(chromium), Some(driver)) = (program("chromium"), program("chromedriver")) else {
            println!(
                "skipped: chromium and chromedriver are not here; `.ci/setup test` brings them, or install Debian's `chromium-driver`"
            );
            return None;
        };
        let profile = tempfile::Builder::new().prefix("hotbay-browser-").tempdir().expect("a folder");
        let (process, driver) = serve(&driver, profile.path()).await;
        let args: Vec<_> =
            FLAGS.map(str::to_owned).into_iter().chain([format!("--user-data-dir={}", profile.path().display())]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "binary": chromium, "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": PATIENCE.as_millis() },
        } } });
        let session = command(driver, "POST", "/session", &wanted).await.expect("Chromium starts");
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        Some(Self { driver, session, process, _profile: profile })
    }

    /// Opens an address.
    pub async fn open(&self, address: &str) {
        self.must("url", json!({ "url": address })).await;
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.must("refresh", json!({})).await;
    }

    /// The address of the page, with its fragment.
    pub async fn address(&self) -> String {
        self.run("return location.href", &[]).await.as_str().unwrap_or_default().to_owned()
    }

    /// How wide and high the page is shown, and in which colours.
    pub async fn show(&self, width: u32, height: u32, colours: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": colours }] });
        self.devtools("Emulation.setEmulatedMedia", feature).await;
    }

    /// The page as a PNG: what is seen of it, from its top, of this width and height.
    pub async fn picture(&self, width: u32, height: u32) -> Vec<u8> {
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let taken = self
            .devtools("Page.captureScreenshot", json!({ "format": "png", "clip": clip, "captureBeyondViewport": true }))
            .await;
        let data = taken["data"].as_str().expect("a picture");
        STANDARD.decode(data).expect("base64")
    }

    /// Runs a script in the page; `return` gives its value back.
    pub async fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.must("execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// Runs a script that calls the last of its arguments with its value once it has it.
    pub async fn run_to_its_end(&self, script: &str, arguments: &[Value]) -> Value {
        self.must("execute/async", json!({ "script": script, "args": arguments })).await
    }

    /// All text that is shown.
    pub async fn text(&self) -> String {
        self.run("return document.body.innerText", &[]).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until all of `shown` is to be read.
    #[track_caller]
    pub fn reads(&self, shown: &[&str]) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        let shown: Vec<String> = shown.iter().map(|text| (*text).to_owned()).collect();
        async move {
            let began = Instant::now();
            loop {
                let text = self.text().await;
                match shown.iter().find(|shown| !text.contains(shown.as_str())) {
                    None => return text,
                    Some(missing) => assert!(began.elapsed() < PATIENCE, "{caller}: {missing:?} does not show in\n{text}"),
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Waits until `script` gives something back that is true.
    #[track_caller]
    pub fn holds(&self, script: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let script = format!("return Boolean({script})");
        async move {
            let began = Instant::now();
            while self.run(&script, &[]).await != Value::Bool(true) {
                if began.elapsed() > PATIENCE {
                    panic!("{caller}: it does not come true: {script}; the page reads\n{}", self.text().await);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// The path of an element, once it is there.
    async fn find(&self, selector: &str) -> String {
        let began = Instant::now();
        loop {
            match self.command("element", json!({ "using": "css selector", "value": selector })).await {
                Ok(found) => return format!("element/{}", found[ELEMENT].as_str().expect("an element")),
                Err(error) if began.elapsed() > PATIENCE => panic!("{selector}: {error}; the page reads\n{}", self.text().await),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Clicks an element once it is there, as a person would: one that is covered is not reached.
    pub async fn click(&self, selector: &str) {
        let began = Instant::now();
        loop {
            let element = self.find(selector).await;
            match self.command(&format!("{element}/click"), json!({})).await {
                Ok(_) => return,
                // It was drawn anew between the two, or still moves.
                Err(error) => assert!(began.elapsed() < PATIENCE / 4, "{selector}: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Clicks the button that reads `text`, in the dialog that is open, or on the page.
    pub async fn press(&self, text: &str) {
        let within = "document.querySelector('dialog[open]') ?? document";
        let button = format!(
            "[...({within}).querySelectorAll('button, a.button')].find((one) => one.innerText.trim().replace(/\\s+/g, ' ').startsWith({text:?}) && !one.disabled)"
        );
        self.holds(&button).await;
        // From under the head of the page, where a person would scroll as well.
        let shown =
            format!("const one = {button}; one.setAttribute('data-pressed', 'next'); one.scrollIntoView({{ block: 'center' }})");
        self.run(&shown, &[]).await;
        self.click("[data-pressed=next]").await;
        self.run("document.querySelector('[data-pressed=next]')?.removeAttribute('data-pressed')", &[]).await;
    }

    /// Writes into a field, in place of what stands there.
    pub async fn write(&self, selector: &str, text: &str) {
        self.send_keys(selector, &format!("{SELECT_ALL}{text}")).await;
    }

    /// Presses a key, wherever the focus is.
    pub async fn key(&self, key: Key) {
        let text = key.text();
        let press = json!([{ "type": "keyDown", "value": text }, { "type": "keyUp", "value": text }]);
        self.must("actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": press }] })).await;
    }

    /// Chooses a file in a file field, which need not be seen.
    pub async fn choose(&self, selector: &str, path: &Path) {
        self.send_keys(selector, &path.to_string_lossy()).await;
    }

    async fn send_keys(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.must(&format!("{element}/value"), json!({ "text": text })).await;
    }

    /// Drops a file on the page, as from the folder of a desktop.
    pub async fn drop_file(&self, name: &str, content: &[u8]) {
        let base64 = STANDARD.encode(content);
        let script = "const [name, base64] = arguments;
            const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
            const files = new DataTransfer();
            files.items.add(new File([bytes], name));
            for (const kind of ['dragenter', 'dragover', 'drop']) {
              document.querySelector('main').dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));
            }";
        self.run(script, &[json!(name), json!(base64)]).await;
    }

    /// What the browser complained of since the last call: errors of scripts, and what the page's policy refused. Answers of the host
    /// that are no success are no complaint.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.must("se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        let is_grave =
            |entry: &&Value| ["SEVERE", "WARNING"].iter().any(|level| entry["level"] == *level) && entry["source"] != "network";
        entries.iter().filter(is_grave).map(|entry| entry["message"].to_string()).collect()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.must("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    async fn must(&self, path: &str, body: Value) -> Value {
        self.command(path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn command(&self, path: &str, body: Value) -> Result<Value, String> {
        command(self.driver, "POST", &format!("/session/{}/{path}", self.session), &body).await
    }
}

/// A command of WebDriver (<https://www.w3.org/TR/webdriver2/>), and its value.
async fn command(driver: SocketAddr, method: &str, target: &str, body: &Value) -> Result<Value, String> {
    let request = Request::new(driver, method, target).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await;
    let value = answer.json()["value"].clone();
    if answer.status == 200 { Ok(value) } else { Err(value["message"].as_str().unwrap_or_default().to_owned()) }
}

/// Starts the driver, and waits until it says on which port it listens.
async fn serve(driver: &Path, folder: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(driver);
    // What Chromium keeps in the home folder is the test's as well.
    command
        .args(["--port=0", "--log-level=SEVERE"])
        .env("HOME", folder)
        .env("XDG_CONFIG_HOME", folder)
        .env("XDG_CACHE_HOME", folder)
        .process_group(0);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let port = timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.expect("its output") {
            let said =
                line.split("started successfully on port ").nth(1).and_then(|port| port.trim_end_matches('.').parse().ok());
            if let Some(port) = said {
                return port;
            }
        }
        panic!("chromedriver ended")
    });
    let port = port.await.expect("chromedriver says where it listens");
    // Whatever else it says is read, so that it never waits for that.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, ([127, 0, 0, 1], port).into())
}
