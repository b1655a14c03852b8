//! The pages of `--html` in a browser: what is drawn, and what mouse and keys do.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci_tests::Browser;
use nix2oci_tests::command::{nix2oci, run};
use nix2oci_tests::handmade_image::{HandmadeImage, in_file};
use serde_json::{Value, json};

/// A closure as large as that of a desktop, and how many layers it gets.
const PATHS: usize = 1123;
const LAYERS: usize = 100;

/// Returns the page of a plan of `paths` store paths of all sizes; `tool-7-1.0`
/// is there once. Each strategy would do that makes many layers of it.
fn plan(folder: &Path, paths: usize, arguments: &[&str]) -> PathBuf {
    let base = |n: usize| {
        let name = ["glibc", "a-tool-of-many-words", "python3", "tool"][n % 4];
        format!("/nix/store/{n:032}-{name}-{n}-1.0")
    };
    let infos: Vec<Value> = (0..paths)
        .map(|n| {
            // Each needs two that come after it, so that the first needs all.
            let references: Vec<String> = (n + 1..paths.min(n + 3)).map(base).collect();
            json!({
                "path": base(n), "references": references, "valid": true,
                "narSize": 3_000_000_000 / (n as u64 * n as u64 + 10),
                "narHash": format!("sha256:{}", "0".repeat(52)),
            })
        })
        .collect();
    fs::write(folder.join("graph.json"), Value::from(infos).to_string()).unwrap();
    let page = folder.join("page.html");
    let printed = run(Command::new(nix2oci())
        .args(["plan", "--closure", "path-info:graph.json", "--max-layers"])
        .arg(LAYERS.to_string())
        .arg(base(0))
        .args([
            "--layers",
            "popularity",
            "--progress",
            "none",
            "--html",
            "page.html",
        ])
        .args(arguments)
        .current_dir(folder));
    assert!(printed.contains("before compression"), "{printed}");
    page
}

#[test]
fn areas_on_the_screen_are_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let page = plan(folder.path(), PATHS, &[]);
    let mut browser = Browser::start();
    for (width, height) in [(1400, 900), (390, 844)] {
        browser.resize(width, height);
        browser.open(&page, "");
        assert_eq!(browser.problems(), [""; 0]);
        assert_eq!(
            browser.evaluate("document.querySelectorAll('#map [role=treeitem]').length"),
            PATHS + LAYERS
        );
        let worst = browser.evaluate(
            "(() => {
                const map = document.getElementById('map').getBoundingClientRect();
                const rows = [...document.querySelectorAll('#layers tbody tr')];
                const sizes = rows.map((row) => Number(row.cells[1].dataset.n));
                const total = sizes.reduce((a, b) => a + b);
                return Math.max(...sizes.map((size, at) => {
                    const box = document.getElementById(`l${at}`).getBoundingClientRect();
                    return Math.abs(box.width * box.height - size / total * map.width * map.height);
                }));
            })()",
        );
        // The stylesheet has hundredths of a percent: a tenth of a pixel.
        assert!(worst.as_f64().unwrap() < 60.0, "{worst} square pixels");
        let wider = browser.evaluate("document.documentElement.scrollWidth");
        assert_eq!(wider, width, "the page is wider than its window");
    }
}

#[test]
fn keys_open_a_layer_move_in_it_and_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let page = plan(folder.path(), PATHS, &[]);
    let mut browser = Browser::start();
    browser.open(&page, "");
    browser.evaluate("document.getElementById('find').focus()");
    browser.press("Tab");
    let focus = "document.activeElement.id";
    let first = browser.evaluate(focus);
    assert!(first.as_str().unwrap().starts_with('l'), "{first}");
    browser.press("End");
    browser.press("Home");
    assert_eq!(browser.evaluate(focus), first);

    // A layer of several store paths.
    let many = "[...document.querySelectorAll('.layer')].find((l) => l.lastElementChild.childElementCount > 8)";
    browser.evaluate(&format!("{many}.focus(), 0"));
    browser.click(".layer:focus .head, .layer:focus");
    browser.evaluate("document.getElementById('back').click()");
    browser.evaluate(&format!("{many}.dataset.test = 1, {many}.focus(), 0"));
    browser.press("ArrowRight");
    browser.press("ArrowLeft");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('.open').length"),
        0
    );
    browser.press("Enter");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('.open').length"),
        1
    );
    let opened = browser.evaluate("document.querySelector('.open').id");
    assert_eq!(
        browser.evaluate("location.hash"),
        format!("#at={}", opened.as_str().unwrap())
    );
    let largest = browser.evaluate(focus);
    assert!(largest.as_str().unwrap().starts_with('p'), "{largest}");
    browser.press("ArrowRight");
    let next = browser.evaluate(focus);
    assert_ne!(next, largest);
    assert_eq!(
        browser.evaluate("getComputedStyle(document.activeElement).outlineStyle"),
        "solid",
        "the focus is seen"
    );
    assert_eq!(
        browser.evaluate("document.getElementById('tip').hidden"),
        false
    );
    let tip = browser.evaluate("document.getElementById('tip').textContent");
    assert!(tip.as_str().unwrap().contains("B, layer "), "{tip}");
    browser.press("ArrowLeft");
    assert_eq!(browser.evaluate(focus), largest);
    // Enter shows the store path's row.
    browser.press("Enter");
    let row = browser.evaluate("document.activeElement.closest('#paths tr.shown') !== null");
    assert_eq!(row, true);
    browser.evaluate(&format!("document.getElementById({largest}).focus()"));
    browser.press("Escape");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('.open').length"),
        0
    );
    assert_eq!(browser.evaluate(focus), opened);
    // The browser's own way back, and a link.
    browser.evaluate(
        "history.back(), new Promise((done) => addEventListener('popstate', done, {once: true}))",
    );
    assert_eq!(
        browser.evaluate("document.querySelector('.open').id"),
        opened
    );
    browser.click("#back");
    assert_eq!(
        browser.evaluate("document.querySelector('.open')"),
        Value::Null
    );
    browser.click("#layers tbody tr:nth-child(3) a");
    assert_eq!(browser.evaluate("document.querySelector('.open').id"), "l2");
    assert_eq!(browser.problems(), [""; 0]);
}

#[test]
fn a_search_counts_marks_and_sums() {
    let folder = tempfile::tempdir().unwrap();
    let page = plan(folder.path(), PATHS, &[]);
    let mut browser = Browser::start();
    browser.open(&page, "");
    browser.evaluate("document.getElementById('find').focus()");
    browser.write("tool-7-");
    let found = "document.getElementById('found').textContent";
    assert_eq!(
        browser.evaluate(found),
        "1 store path, 50.8 MB (3.1 %), in 1 layer"
    );
    let shown = "[...document.querySelectorAll('#paths tbody tr')].filter((r) => !r.hidden).length";
    let hits = "document.querySelectorAll('.cell.hit').length";
    let layers = "document.querySelectorAll('#layers tr.hit, .layer.hit').length";
    for (what, count) in [(shown, 1), (hits, 1), (layers, 2)] {
        assert_eq!(browser.evaluate(what), count, "{what}");
    }
    browser.press("Escape");
    assert_eq!(browser.evaluate(found), "");
    for (what, count) in [(shown, PATHS), (hits, 0), (layers, 0)] {
        assert_eq!(browser.evaluate(what), count, "{what}");
    }
    browser.write("no such thing");
    assert_eq!(browser.evaluate(found), "no store path");

    // A search can be linked; all of its words must be there.
    browser.open(&page, "#find=python3%20-6-");
    assert_eq!(browser.evaluate("CSS.highlights.get('found').size"), 1);
    assert_eq!(browser.evaluate(hits), 1);

    // What is typed shows at once, also in a large page.
    let slowest = browser.evaluate(
        "(() => {
            const find = document.getElementById('find');
            return Math.max(...['g', 'gl', 'glibc', ''].map((text) => {
                find.value = text;
                const start = performance.now();
                find.dispatchEvent(new Event('input'));
                document.body.getBoundingClientRect();
                return performance.now() - start;
            }));
        })()",
    );
    assert!(slowest.as_f64().unwrap() < 1000.0, "{slowest} ms");
    println!("slowest of four searches in {PATHS} store paths: {slowest} ms");
    assert_eq!(browser.problems(), [""; 0]);
}

#[test]
fn tables_sort_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let page = plan(folder.path(), 300, &[]);
    let mut browser = Browser::start();
    browser.open(&page, "");
    let sorted = |browser: &mut Browser| {
        browser.evaluate(
            "[...document.querySelectorAll('#paths thead th')].map((h) => h.ariaSort).join()",
        )
    };
    let first = "document.querySelector('#paths tbody th').textContent";
    assert_eq!(sorted(&mut browser), ",,descending,,");
    assert_eq!(browser.evaluate(first), "glibc");
    browser.evaluate("document.querySelector('#paths thead button').focus()");
    browser.press("Enter");
    assert_eq!(sorted(&mut browser), "ascending,,,,");
    assert_eq!(browser.evaluate(first), "a-tool-of-many-words");
    browser.press("Enter");
    assert_eq!(sorted(&mut browser), "descending,,,,");
    assert_eq!(browser.evaluate(first), "tool");
    let sizes = "[...document.querySelectorAll('#layers tbody td:nth-child(2)')].map((c) => Number(c.dataset.n))";
    browser.click("#layers thead th:nth-child(2) button");
    let falls = format!("{sizes}.every((size, at, all) => at === 0 || size <= all[at - 1])");
    assert_eq!(browser.evaluate(&falls), true);
    // The map still finds the rows.
    browser.evaluate("document.getElementById('find').focus()");
    browser.write("tool-7-");
    assert_eq!(
        browser.evaluate("document.querySelector('.cell.hit b').textContent"),
        "tool"
    );
    assert_eq!(browser.problems(), [""; 0]);
}

/// Says how much all texts stand out from what is behind them: the least ratio
/// (WCAG 2.2, 1.4.3), and where.
const CONTRAST: &str = "(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
    const drawn = (colours) => {
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = (colours) => {
        const [r, g, b] = [...drawn(colours)].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let worst = [99, ''];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.tagName === 'SCRIPT') continue;
        const behind = [];
        for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
        const [a, b] = [light(behind), light([...behind, getComputedStyle(element).color])];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < worst[0]) worst = [ratio, `${element.className} ${element.tagName} ${texts.currentNode.data} in ${element.parentElement.className}`];
    }
    return worst;
})()";

#[test]
fn texts_can_be_read_in_light_and_in_dark() {
    let folder = tempfile::tempdir().unwrap();
    let page = plan(folder.path(), 300, &[]);
    let mut browser = Browser::start();
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer("", &[("prefers-color-scheme", scheme)]);
        browser.open(&page, "");
        grounds
            .push(browser.evaluate("getComputedStyle(document.documentElement).backgroundColor"));
        let states = [
            "new", "again", "kept", "reused", "cached", "exists", "mounted", "base", "gone",
        ];
        for state in [""].iter().chain(&states) {
            if !state.is_empty() {
                browser.evaluate(&format!(
                    "for (const layer of document.querySelectorAll('.layer')) layer.className = 'layer is-{state}'"
                ));
            }
            let worst = browser.evaluate(CONTRAST);
            let ratio = worst[0].as_f64().unwrap();
            assert!((4.5..22.0).contains(&ratio), "{scheme} {state}: {worst}");
        }
    }
    assert_ne!(grounds[0], grounds[1]);
}

#[test]
fn a_page_suits_those_who_read_it_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let page = plan(folder.path(), 300, &[]);
    let mut browser = Browser::start();
    browser.prefer("", &[("prefers-reduced-motion", "reduce")]);
    browser.open(&page, "");
    let duration = "getComputedStyle(document.querySelector('.layer')).transitionDuration";
    assert_eq!(browser.evaluate(duration), "0s");
    let seen = "(id) => document.getElementById(id).checkVisibility()";
    browser.prefer("print", &[]);
    for (id, is_seen) in [("tools", false), ("map", true), ("paths", true)] {
        assert_eq!(
            browser.evaluate(&format!("({seen})('{id}')")),
            is_seen,
            "{id}"
        );
    }
    browser.prefer("", &[]);

    browser.allow_scripts(false);
    browser.open(&page, "");
    for (id, is_seen) in [
        ("tools", false),
        ("map", true),
        ("layers", true),
        ("paths", true),
    ] {
        assert_eq!(
            browser.evaluate(&format!("({seen})('{id}')")),
            is_seen,
            "{id}"
        );
    }
    let place = "document.getElementById('l0').getBoundingClientRect().width > 0";
    assert_eq!(browser.evaluate(place), true);
    assert_eq!(
        browser.evaluate("document.querySelectorAll('[role=tree]').length"),
        0
    );
    assert_eq!(browser.problems(), [""; 0]);
}

#[test]
fn what_an_image_says_is_only_text() {
    const HOSTILE: &str = "</script><script>document.title='taken'</script><img src=http://127.0.0.1/x onerror=alert(1)>\u{202e}\u{2028}";
    let folder = tempfile::tempdir().unwrap();
    let image = HandmadeImage {
        config: |config| {
            config["author"] = HOSTILE.into();
            config["history"][1]["comment"] = HOSTILE.into();
        },
        ..HandmadeImage::default()
    };
    let archive = in_file(&image.combined().archive());
    let page = folder.path().join("page.html");
    let printed = run(Command::new(nix2oci())
        .arg("inspect")
        .arg(&archive.path)
        .arg("--html")
        .arg(&page));
    assert!(printed.contains("\nlayer 2  "), "{printed}");
    let mut browser = Browser::start();
    browser.open(&page, "");
    assert_eq!(browser.problems(), [""; 0]);
    assert_eq!(
        browser.evaluate("document.querySelectorAll('script, img').length"),
        1
    );
    let why = browser.evaluate(
        "document.querySelector('#layers tbody tr:nth-child(2) td:last-child').textContent",
    );
    let spelled = HOSTILE
        .replace('\u{202e}', "\\u{202e}")
        .replace('\u{2028}', "\\u{2028}");
    assert_eq!(why, spelled);
    assert_eq!(
        browser.evaluate("document.querySelectorAll('.cell').length"),
        2,
        "both store paths are in the map"
    );

    // What would be let in by mistake is still not run or loaded.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap().to_string();
    browser.evaluate(
        &"new Promise((done) => {
            const script = document.createElement('script');
            script.textContent = 'document.title = \"taken\"';
            const image = document.createElement('img');
            image.onerror = done;
            image.src = 'http://127.0.0.1:9/x';
            document.body.append(script, image);
        })"
        .replace("ADDRESS", &address),
    );
    assert_ne!(browser.evaluate("document.title"), "taken");
    let asked = server.accept().unwrap_err();
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock);
    let problems = browser.problems();
    let refused = |problem: &&String| problem.contains("Content Security Policy");
    assert_eq!(problems.iter().filter(refused).count(), 2, "{problems:?}");
}
