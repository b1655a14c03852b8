//! Documents, what is refused in them, and the files of their accounts.

use serde_json::json;

use super::users::Accounts;
use super::*;
use crate::error::ErrorKind;
use crate::oci::Owner;

const PATH: &str = "/nix/store/00000000000000000000000000000000-bash";

fn parse(value: &Value) -> Result<RootDocument> {
    parse_named("root.json", value)
}

fn parse_named(name: &str, value: &Value) -> Result<RootDocument> {
    RootDocument::parse(name, value.to_string().as_bytes(), &StoreDir::default())
}

/// A document of these members and a version.
fn document(mut value: Value) -> Value {
    value["version"] = json!(1);
    value
}

fn refused(value: Value) -> String {
    let error = parse(&document(value)).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Document { .. }),
        "{error}"
    );
    let message = error.to_string();
    let about = message.strip_prefix("root.json");
    about.expect("it names the file").to_owned()
}

#[test]
fn an_error_names_the_file_and_the_key() {
    for (value, expected) in [
        (
            json!({"fils": []}),
            ", key fils: it is not a known key; known are version, directories, files,",
        ),
        (
            json!({"files": [{"path": "/a", "text": ""}, {"path": "/b", "txt": ""}]}),
            ", key files[1].txt: it is not a known key; known are path, text, base64,",
        ),
        (
            json!({"files": {}}),
            ", key files: expected an array, found an object",
        ),
        (
            json!({"files": ["/a"]}),
            ", key files[0]: expected an object, found a string",
        ),
        (
            json!({"files": [{"path": "/a"}]}),
            ", key files[0]: expected one of text, base64 and source",
        ),
        (
            json!({"files": [{"path": "/a", "text": "", "base64": ""}]}),
            ", key files[0]: expected one of text, base64 and source",
        ),
        (
            json!({"files": [{"path": "/a", "base64": "?"}]}),
            ", key files[0].base64: expected base 64: ",
        ),
        (
            json!({"files": [{"path": "/a", "source": "/etc/x"}]}),
            ", key files[0].source: \"/etc/x\" is not",
        ),
        (
            json!({"files": [{"path": "/a", "source": format!("{PATH}/../x")}]}),
            "without empty names, . or ..",
        ),
        (
            json!({"files": [{"path": "/a", "source": PATH, "executable": true}]}),
            ", key files[0].executable: it is as in the store",
        ),
        (
            json!({"files": [{"path": "a", "text": ""}]}),
            ", key files[0].path: \"a\" is no path in the image: expected one from / on",
        ),
        (
            json!({"files": [{"text": ""}]}),
            ", key files[0].path: it is missing",
        ),
        (
            json!({"directories": [{"path": "/"}]}),
            ", key directories[0].path: it is the root itself: a rule with the glob / says",
        ),
        (
            json!({"directories": [{"path": "/a/../b"}]}),
            ", key directories[0].path: \"/a/../b\": expected a path below the root",
        ),
        (
            json!({"directories": [{"path": "/a", "mode": 755}]}),
            ", key directories[0].mode: expected octal digits in a string, such as \"0755\", \
             found a number",
        ),
        (
            json!({"directories": [{"path": "/a", "mode": "0888"}]}),
            ", key directories[0].mode: \"0888\" is no mode: expected octal digits",
        ),
        (
            json!({"directories": [{"path": "/a", "xattrs": {"x": "1"}}]}),
            ", key directories[0].xattrs: \"x\" is no extended attribute",
        ),
        (
            json!({"directories": [{"path": "/a", "xattrs": {"user.x": 1}}]}),
            ", key directories[0].xattrs.user.x: expected a string, or {\"base64\": …}, found a",
        ),
        (
            json!({"symlinks": [{"path": "/a", "target": ""}]}),
            ", key symlinks[0].target: it cannot be empty",
        ),
        (
            json!({"copies": [{}]}),
            ", key copies[0].source: it is missing",
        ),
        (
            json!({"copies": [{"source": PATH, "rewrites": [{"regex": "(", "replacement": ""}]}]}),
            ", key copies[0].rewrites[0].regex: the expression \"(\": unclosed group",
        ),
        (
            json!({"users": [{"name": "a b", "uid": 1}]}),
            ", key users[0].name: \"a b\" is no name",
        ),
        (
            json!({"users": [{"name": "app"}]}),
            ", key users[0].uid: it is missing",
        ),
        (
            json!({"users": [{"name": "app", "uid": -1}]}),
            ", key users[0].uid: -1 is not from 0 to 4294967294",
        ),
        (
            json!({"users": [{"name": "app", "uid": 4294967295_u32}]}),
            ", key users[0].uid: 4294967295 is not from 0 to 4294967294",
        ),
        (
            json!({"users": [{"name": "app", "uid": "1"}]}),
            ", key users[0].uid: expected a number, found a string",
        ),
        (
            json!({"users": [{"name": "app", "uid": 1, "shell": "/bin/a:b"}]}),
            ", key users[0].shell: it cannot have a colon",
        ),
        (
            json!({"users": [{"name": "app", "uid": 1, "home": "app"}]}),
            ", key users[0].home: expected a path from / on",
        ),
        (
            json!({"users": [{"name": "app", "uid": 1, "gid": 1, "group": "app"}]}),
            ", key users[0].group: gid says it already",
        ),
        (
            json!({"groups": [{"name": "app", "gid": 1, "members": ["a,b"]}]}),
            ", key groups[0].members: \"a,b\" is no name of a user",
        ),
        (
            json!({"rules": [{"mode": "1"}]}),
            ", key rules[0]: expected one of glob, regex and source",
        ),
        (
            json!({"rules": [{"glob": "/a"}]}),
            ", key rules[0]: it says nothing: expected a mode",
        ),
        (
            json!({"rules": [{"glob": "/a", "addMode": "0x1"}]}),
            ", key rules[0].addMode: \"0x1\" is no mode: expected octal digits",
        ),
        (
            json!({"rules": [{"glob": "a", "mode": "1"}]}),
            ", key rules[0].glob: the pattern \"a\": expected a glob over absolute paths",
        ),
        (
            json!({"rules": [{"glob": "/a", "capabilities": "cap_fly=ep"}]}),
            ", key rules[0].capabilities: \"cap_fly=ep\" is not a set of capabilities",
        ),
        (
            json!({"rules": [{"glob": "/a", "mode": "1", "within": format!("{PATH}/bin")}]}),
            ", key rules[0].within: expected a store path, nothing in it",
        ),
        (
            json!({"timezone": "UTC"}),
            ", key timezone: expected an object, found a string",
        ),
        (
            json!({"timezone": {"name": "../x", "data": PATH}}),
            ", key timezone.name: \"../x\" is no time zone",
        ),
        (
            json!({"tmp": 1}),
            ", key tmp: expected true or false, found a number",
        ),
    ] {
        let message = refused(value);
        assert!(message.contains(expected), "{message}");
    }
    for (json, expected) in [
        ("{}", "root.json, key version: it is missing: expected 1"),
        ("[]", "root.json: expected an object, found an array"),
        (
            r#"{"version": 2}"#,
            "root.json, key version: 2 is not known: expected 1",
        ),
        ("{", "root.json, line 1, column 1: not JSON: "),
    ] {
        let error = RootDocument::parse("root.json", json.as_bytes(), &StoreDir::default());
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn store_paths_are_linked_or_copied() {
    let at = |name: &str| format!("/nix/store/{}-{name}", "0".repeat(32));
    let document = parse(&document(json!({
        "files": [{"path": "/a", "source": at("file")}],
        "copies": [{"source": at("site")}],
        "symlinks": [{"path": "/b", "target": at("link/x")}, {"path": "/c", "target": "b"}],
        "certificates": at("cacert"), "binSh": at("bash/bin/sh"), "usrBinEnv": at("coreutils"),
        "timezone": {"name": "UTC", "data": at("tzdata")},
    })))
    .unwrap();
    let names = |paths: BTreeSet<StorePath>| -> Vec<String> {
        paths.iter().map(|path| path.name().to_owned()).collect()
    };
    assert_eq!(
        names(document.linked_paths(&StoreDir::default())),
        ["bash", "cacert", "coreutils", "link", "tzdata"]
    );
    assert_eq!(names(document.copied_paths()), ["file", "site"]);
}

/// The files of the accounts of documents, each with its name.
fn files(documents: &[Value]) -> Result<Vec<(&'static str, String, u32)>> {
    let files = files_on(&AccountFiles::default(), documents)?;
    let told = |(path, text, metadata): (_, _, Metadata)| {
        let mode = metadata.mode.expect("these files have one");
        assert_eq!(metadata, Metadata::mode(mode));
        (path, text, mode)
    };
    Ok(files.into_iter().map(told).collect())
}

/// The same on those of a base.
fn files_on(
    base: &AccountFiles,
    documents: &[Value],
) -> Result<Vec<(&'static str, String, Metadata)>> {
    let names = ["one.json", "two.json"];
    let documents = documents.iter().zip(names);
    let documents: Vec<_> = documents
        .map(|(value, name)| parse_named(name, &document(value.clone())).unwrap())
        .collect();
    let files = Accounts::new(&documents, base)?.files();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let files = files.into_iter();
    Ok(files
        .map(|file| (file.path, text(file.bytes), file.metadata))
        .collect())
}

#[test]
fn without_users_it_is_nixpkgs_fake_nss() {
    assert!(files(&[json!({})]).unwrap().is_empty());
    assert_eq!(
        files(&[json!({"fakeNss": true})]).unwrap(),
        [
            (
                "etc/passwd",
                "root:x:0:0:root user:/var/empty:/bin/sh\n\
                 nobody:x:65534:65534:nobody:/var/empty:/bin/sh\n"
                    .to_owned(),
                0o644
            ),
            (
                "etc/group",
                "root:x:0:\nnobody:x:65534:\n".to_owned(),
                0o644
            ),
            ("etc/nsswitch.conf", "hosts: files dns\n".to_owned(), 0o644),
        ]
    );
}

#[test]
fn users_alone_are_nixpkgs_shadow_setup() {
    let root = json!({
        "name": "root", "uid": 0, "home": "/root", "createHome": false, "shell": "/x/bin/bash",
    });
    let found = files(&[json!({"users": [root], "fakeNss": false, "shadow": true})]).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|(path, text, mode)| (*path, text.as_str(), *mode))
        .collect();
    assert_eq!(
        found,
        [
            ("etc/passwd", "root:x:0:0::/root:/x/bin/bash\n", 0o644),
            ("etc/group", "root:x:0:\n", 0o644),
            ("etc/shadow", "root:!x:::::::\n", 0o600),
            ("etc/gshadow", "root:x::\n", 0o600),
            (
                "etc/pam.d/other",
                "account sufficient pam_unix.so\nauth sufficient pam_rootok.so\n\
                 password requisite pam_unix.so nullok yescrypt\n\
                 session required pam_unix.so\n",
                0o644
            ),
            ("etc/login.defs", "", 0o644),
        ]
    );
}

#[test]
fn users_of_two_documents_are_joined_in_any_order() {
    let one = json!({
        "users": [
            {"name": "app", "uid": 1000, "description": "The App", "shell": "/bin/bash"},
            {"name": "web", "uid": 80, "group": "www"},
        ],
        "groups": [{"name": "video", "gid": 44, "members": ["web"]}],
    });
    let two = json!({
        "users": [
            {"name": "app", "uid": 1000, "description": "The App", "shell": "/bin/bash"},
            {"name": "log", "uid": 90, "gid": 4},
        ],
        "groups": [
            {"name": "video", "gid": 44, "members": ["app"]},
            {"name": "www", "gid": 81},
        ],
    });
    let found = files(&[one.clone(), two.clone()]).unwrap();
    assert_eq!(
        found[0].1,
        "root:x:0:0:root user:/var/empty:/bin/sh\n\
         web:x:80:81::/var/empty:/bin/sh\n\
         log:x:90:4::/var/empty:/bin/sh\n\
         app:x:1000:1000:The App:/var/empty:/bin/bash\n\
         nobody:x:65534:65534:nobody:/var/empty:/bin/sh\n"
    );
    assert_eq!(
        found[1].1,
        "root:x:0:\nlog:x:4:\nvideo:x:44:app,web\nwww:x:81:\napp:x:1000:\nnobody:x:65534:\n"
    );
    assert_eq!(files(&[two, one]).unwrap(), found);
}

#[test]
fn documents_that_differ_about_an_account_are_named() {
    let user = |uid: u32| json!({"users": [{"name": "app", "uid": uid}]});
    let group = |gid: u32| json!({"groups": [{"name": "app", "gid": gid}]});
    for (documents, what) in [
        ([user(1), user(2)], "user"),
        ([group(1), group(2)], "group"),
    ] {
        assert_eq!(
            files(&documents).unwrap_err().to_string(),
            format!("the {what} app comes from both one.json and two.json, which differ")
        );
    }
    let lost = json!({"users": [{"name": "app", "uid": 1, "group": "gone"}]});
    assert_eq!(
        files(&[lost]).unwrap_err().to_string(),
        "the group gone of the user app: it is in no document: add it to groups"
    );
}

#[test]
fn owners_are_numbers_or_names() {
    let owner = |text: &str| {
        let document = parse(&document(json!({
            "users": [{"name": "app", "uid": 1000, "gid": 100}],
            "groups": [{"name": "video", "gid": 44}],
            "directories": [{"path": "/a", "owner": text}],
        })))
        .unwrap();
        let base = AccountFiles::default();
        let accounts = Accounts::new(std::slice::from_ref(&document), &base).unwrap();
        let (_, own) = &document.directories[0];
        accounts
            .owner(own.owner.as_ref())
            .map_err(|e| e.to_string())
    };
    for (text, uid, gid) in [
        ("1:2", 1, 2),
        ("app", 1000, 100),
        ("app:video", 1000, 44),
        ("7:video", 7, 44),
        ("root", 0, 0),
    ] {
        assert_eq!(owner(text), Ok(Some(Owner { uid, gid })), "{text}");
    }
    for (text, problem) in [
        ("7", "\"7\" has no group: expected UID:GID"),
        ("ap", "\"ap\" is no user: expected a number or"),
        ("app:vid", "\"vid\" is no group: expected a number or"),
        ("", "\"\" is no user"),
        ("+1:1", "\"+1\" is no user"),
    ] {
        let message = owner(text).unwrap_err();
        let about = format!("root.json, key directories[0].owner: {problem}");
        assert!(message.starts_with(&about), "{message}");
    }
}

/// A base as Debian's are.
fn debian() -> AccountFiles {
    let mut base = AccountFiles::new("the base image debian");
    let shadow = Metadata {
        owner: Some(Owner { uid: 0, gid: 42 }),
        ..Metadata::mode(0o640)
    };
    for (path, text, metadata) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:w:/var/www:/nologin\n\
             nobody:x:65534:65534:n:/nonexistent:/nologin\n+::::::\n",
            Metadata::mode(0o644),
        ),
        (
            "etc/group",
            "root:x:0:\nvideo:x:44:kim\nshadow:x:42:\nwww-data:x:33:\nnogroup:x:65534:\n",
            Metadata::mode(0o644),
        ),
        (
            "etc/shadow",
            "root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n",
            shadow.clone(),
        ),
        ("etc/gshadow", "root:*::\nvideo:!::kim\n", shadow),
        (
            "etc/nsswitch.conf",
            "passwd: files\n",
            Metadata::mode(0o644),
        ),
        ("etc/login.defs", "UID_MIN 1000\n", Metadata::mode(0o644)),
        ("etc/hosts", "passed over", Metadata::default()),
    ] {
        base.insert(path, text.into(), metadata);
    }
    base
}

#[test]
fn users_are_added_to_those_of_a_base() {
    let shadow = Metadata {
        owner: Some(Owner { uid: 0, gid: 42 }),
        ..Metadata::mode(0o640)
    };
    let document = json!({
        "users": [{"name": "app", "uid": 1000}],
        "groups": [{"name": "video", "gid": 44, "members": ["app", "kim"]}],
    });
    assert_eq!(
        files_on(&debian(), &[document]).unwrap(),
        [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:w:/var/www:/nologin\n\
                 nobody:x:65534:65534:n:/nonexistent:/nologin\n+::::::\n\
                 app:x:1000:1000::/var/empty:/bin/sh\n"
                    .to_owned(),
                Metadata::mode(0o644),
            ),
            (
                "etc/group",
                "root:x:0:\nvideo:x:44:kim,app\nshadow:x:42:\nwww-data:x:33:\n\
                 nogroup:x:65534:\napp:x:1000:\n"
                    .to_owned(),
                Metadata::mode(0o644),
            ),
            (
                "etc/shadow",
                "root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\napp:!x:::::::\n"
                    .to_owned(),
                shadow.clone(),
            ),
            (
                "etc/gshadow",
                "root:*::\nvideo:!::kim,app\napp:x::\n".to_owned(),
                shadow,
            ),
        ]
    );
}

#[test]
fn who_is_in_the_base_can_be_said_again() {
    let of = |document| {
        let files = files_on(&debian(), &[document]).unwrap();
        let files = files.into_iter();
        files
            .map(|(path, text, _)| (path, text))
            .collect::<Vec<_>>()
    };
    let root = json!({
        "users": [{"name": "root", "uid": 0, "home": "/root", "createHome": false, "password": "p"}],
    });
    assert_eq!(
        of(root),
        [
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33:w:/var/www:/nologin\n\
                 nobody:x:65534:65534:n:/nonexistent:/nologin\n+::::::\n"
                    .to_owned()
            ),
            (
                "etc/shadow",
                "root:p:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n".to_owned()
            ),
        ]
    );
    // A group of the base is the user's own, by name as by number.
    let user = json!({"users": [{"name": "video", "uid": 44, "gid": 44}]});
    let paths: Vec<_> = of(user).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["etc/passwd", "etc/shadow"]);
    // What it has is not replaced, and what it lacks is there.
    let found = of(json!({"fakeNss": true, "shadow": true}));
    let paths: Vec<_> = found.iter().map(|(path, _)| *path).collect();
    assert_eq!(paths, ["etc/pam.d/other"]);
}

#[test]
fn a_document_and_a_base_do_not_differ_about_numbers() {
    for (document, what) in [
        (
            json!({"users": [{"name": "www-data", "uid": 82}]}),
            "the user www-data",
        ),
        (
            json!({"groups": [{"name": "video", "gid": 39}]}),
            "the group video",
        ),
    ] {
        let error = files_on(&debian(), &[document]).unwrap_err();
        let ErrorKind::RootTreeConflict {
            path,
            first,
            second,
        } = error.kind()
        else {
            panic!("{error}");
        };
        assert_eq!(path, what);
        assert_eq!((&**first, &**second), ("the base image debian", "one.json"));
    }
}

#[test]
fn owners_may_be_users_and_groups_of_a_base() {
    let document = parse(&document(json!({
        "users": [{"name": "app", "uid": 1000, "group": "www-data"}],
        "directories": [
            {"path": "/a", "owner": "www-data"},
            {"path": "/b", "owner": "app:video"},
            {"path": "/c", "owner": "app"},
        ],
    })))
    .unwrap();
    let base = debian();
    let accounts = Accounts::new(std::slice::from_ref(&document), &base).unwrap();
    let owners: Vec<_> = document
        .directories
        .iter()
        .map(|(_, own)| accounts.owner(own.owner.as_ref()).unwrap().unwrap())
        .map(|owner| (owner.uid, owner.gid))
        .collect();
    assert_eq!(owners, [(33, 33), (1000, 44), (1000, 33)]);
}
