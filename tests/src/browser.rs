//! A browser without a window, spoken to over two pipes in the DevTools protocol.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Far more than a page needs, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Debian's chromium with one page open.
///
/// It knows nothing of the machine's user and leaves nothing behind.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    problems: Vec<String>,
    /// The loader of the page that was loaded last.
    loaded: Value,
    // Last, since the browser writes there until it ends.
    profile: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If it is not there or does not answer.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder can be made");
        // The browser reads from 3 and writes to 4, in which the shell puts them.
        // Its own sandbox would not let root in.
        let script = r#"exec chromium-headless-shell --no-sandbox --disable-gpu \
            --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe \
            --user-data-dir="$HOME" about:blank 3<&0 4>&1 0</dev/null 1>/dev/null 2>"$HOME/log""#;
        let mut child = Command::new("sh")
            .args(["-c", script])
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            input: child.stdin.take(),
            child,
            messages,
            session: None,
            last_id: 0,
            problems: Vec::new(),
            loaded: Value::Null,
            profile,
        };
        let targets = browser.call("Target.getTargets", json!({}));
        let pages = targets["targetInfos"].as_array().expect("a list of them");
        let page = pages.iter().find(|target| target["type"] == "page");
        let page = &page.expect("a page is open")["targetId"];
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": page, "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.setLifecycleEventsEnabled", json!({"enabled": true}));
        browser.resize(1280, 900);
        browser
    }

    /// Opens a file, as new, and waits until it is loaded.
    pub fn open(&mut self, file: &Path, fragment: &str) {
        // From elsewhere, since another fragment alone would load nothing.
        for address in [
            "about:blank".to_owned(),
            format!("file://{}{fragment}", file.display()),
        ] {
            let navigation = self.call("Page.navigate", json!({"url": address}));
            while self.loaded != navigation["loaderId"] {
                let message = self.next();
                self.note(&message);
            }
        }
    }

    /// Returns what an expression of JavaScript is in the page.
    ///
    /// # Panics
    ///
    /// If it throws.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let what = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", what);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// Presses a key that writes nothing, such as `Enter` or `ArrowLeft`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "End" => 35,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            other => panic!("{other} has no code here"),
        };
        // A button is pressed by the text of the key.
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Writes into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Clicks on the middle of the element that a selector finds.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let middle = self.evaluate(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}}); \
             const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Gives the window a size in the pixels of CSS.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Pretends a medium, such as `print` (or none: ``), and what the user
    /// prefers, as in `("prefers-color-scheme", "dark")`.
    pub fn prefer(&mut self, medium: &str, features: &[(&str, &str)]) {
        let feature = |(name, value): &(&str, &str)| json!({"name": name, "value": value});
        let features: Vec<Value> = features.iter().map(feature).collect();
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"media": medium, "features": features}),
        );
    }

    /// Says whether pages that are opened from now on may run scripts.
    pub fn allow_scripts(&mut self, allow: bool) {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": !allow}),
        );
    }

    /// Returns what went wrong since this was asked last: messages of the
    /// console, errors, and addresses that are not files.
    pub fn problems(&mut self) -> Vec<String> {
        // Messages that are on their way arrive before an answer.
        self.evaluate("document.body.getBoundingClientRect().width");
        std::mem::take(&mut self.problems)
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let input = self.input.as_mut().expect("it is open until the end");
        let sent = input.write_all(format!("{message}\0").as_bytes());
        assert!(sent.is_ok(), "{}", self.gone());
        loop {
            let mut message = self.next();
            if message["id"] == self.last_id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.note(&message);
        }
    }

    #[track_caller]
    fn next(&self) -> Value {
        self.messages
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{}", self.gone()))
    }

    fn gone(&self) -> String {
        let log = std::fs::read_to_string(self.profile.path().join("log"));
        format!(
            "chromium-headless-shell does not answer; tests/install installs it\n{}",
            log.unwrap_or_default()
        )
    }

    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Page.lifecycleEvent") if params["name"] == "load" => {
                self.loaded = params["loaderId"].clone();
            }
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded") => {
                self.problems.push(params.to_string());
            }
            Some("Network.requestWillBeSent") => {
                let address = params["request"]["url"].as_str().unwrap_or_default();
                if !["file:", "data:", "about:"]
                    .iter()
                    .any(|local| address.starts_with(local))
                {
                    self.problems.push(format!("asked for {address}"));
                }
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without its pipe it ends, and takes its other processes with it.
        drop(self.input.take());
        while self.messages.recv_timeout(PATIENCE).is_ok() {}
        let _ = self.child.wait();
    }
}
