//! Tars that become layers as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix2oci::build::{Recipe, build, plan, resolve};
use nix2oci::image::{ImageReader, ImageSource, check};
use nix2oci::layer::{LayerContent, LayerProblem, TarFile};
use nix2oci::sink::Destination;
use nix2oci::{Compression, Context, ErrorClass, ErrorKind, ImageSpec, Result, StoreDir};
use nix2oci_tests::command::run;
use nix2oci_tests::fake_registry::FakeRegistry;
use nix2oci_tests::handmade_image::{Codec, Entry, compress, digest, tar};
use nix2oci_tests::image_files::layer_tars;

use crate::push::{push_recipe, release};

/// A tar in a file of its own.
struct Given {
    dir: tempfile::TempDir,
    file: PathBuf,
}

impl Given {
    fn new(bytes: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("layer.tar");
        fs::write(&file, bytes).unwrap();
        Self { dir, file }
    }

    fn open(&self) -> Result<TarFile> {
        TarFile::open(&Context::default(), &self.file, &StoreDir::default())
    }

    #[track_caller]
    fn problem(&self) -> String {
        let error = self.open().unwrap_err();
        assert_eq!(error.class(), ErrorClass::Input, "{error}");
        let message = error.to_string();
        let name = format!("{}: ", self.file.display());
        message
            .strip_prefix(&name)
            .expect("it names the file")
            .to_owned()
    }
}

fn directory(path: &str) -> Entry {
    Entry::Dir(path.to_owned())
}

fn file(path: &str) -> Entry {
    Entry::File(path.to_owned(), b"text\n".to_vec())
}

fn symlink(path: &str, target: &str) -> Entry {
    Entry::Symlink(path.to_owned(), target.to_owned())
}

/// What `tar -C root -cf layer.tar .` writes, as dockerTools calls it.
fn customisation() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("root/var/lib/app");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("state"), "{}").unwrap();
    run(Command::new("tar")
        .args(["--sort=name", "--owner=12", "--group=34", "--mtime=@1"])
        .args(["--hard-dereference", "--create", "--file", "layer.tar"])
        .args(["--directory", "root", "."])
        .current_dir(dir.path()));
    fs::read(dir.path().join("layer.tar")).unwrap()
}

fn with_tars(tars: &[&Given]) -> ImageSpec {
    let mut spec = release(1).spec;
    spec.layer_tars = tars.iter().map(|given| given.open().unwrap()).collect();
    spec
}

fn written(spec: &ImageSpec, dir: &Path) -> PathBuf {
    let image = dir.join("image.tar");
    let destination = Destination::Archive {
        file: image.clone(),
    };
    let mut sink = destination.open(None).unwrap();
    build(&Context::default(), spec, &mut *sink).unwrap();
    image
}

/// Also the names with `./` of dockerTools' customisation layer are fine.
#[test]
fn tars_are_the_top_layers_to_the_byte_and_in_order() {
    let (first, second) = (customisation(), tar(&[directory("etc/"), file("etc/x")]));
    let (one, two) = (Given::new(&first), Given::new(&second));
    for compression in [Compression::None, Compression::default()] {
        let mut spec = with_tars(&[&one, &two]);
        spec.packing.compression = compression;
        spec.names = vec![nix2oci::oci::parse_name("app:1").unwrap()];
        let image = written(&spec, one.dir.path());
        let tars = layer_tars(&image);
        assert_eq!(tars.len(), 5, "a layer for each store path and each tar");
        assert!(tars[3] == first && tars[4] == second);
        let reader = ImageReader::open(&Context::default(), &ImageSource::Path(image)).unwrap();
        let problems = check(&Context::default(), &reader).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
    }
}

#[test]
fn a_compression_of_the_file_does_not_shape_the_layer() {
    let bytes = customisation();
    let plain = Given::new(&bytes);
    let key = |given: &Given| {
        let spec = with_tars(&[given]);
        let plan = plan(&Context::default(), &spec).unwrap();
        plan.layers
            .last()
            .unwrap()
            .key
            .expect("its bytes are known")
    };
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let given = Given::new(&compress(codec, &bytes));
        let tar = given.open().unwrap();
        assert_eq!(tar.diff_id().to_string(), digest(&bytes));
        assert_eq!(tar.size(), bytes.len() as u64);
        assert_eq!(tar.problems(), []);
        assert_eq!(key(&given), key(&plain));
        let image = written(&with_tars(&[&given]), given.dir.path());
        assert!(layer_tars(&image).pop().unwrap() == bytes);
    }
    let other = Given::new(&tar(&[file("x")]));
    assert_ne!(key(&other), key(&plain));
}

#[test]
fn what_is_no_layer_is_refused() {
    let whole = customisation();
    let two = |entry: Entry| tar(&[directory("a/"), entry.clone(), entry]);
    for (bytes, problem) in [
        (vec![], "it is empty, expected a tar"),
        (b"no tar".to_vec(), "the tar ends inside a header at byte 0"),
        (vec![7; 2048], "at byte 0"),
        (
            [b"\xfd7zXZ\0".as_slice(), &[7; 2048]].concat(),
            "compressed with xz, expected gzip, zstd or nothing",
        ),
        (
            [b"BZh9".as_slice(), &[7; 2048]].concat(),
            "compressed with bzip2",
        ),
        (whole[..600].to_vec(), "the tar ends inside a header"),
        (
            whole[..1024].to_vec(),
            "the tar does not end in two blocks of zeros: is it truncated?",
        ),
        (
            compress(Codec::Gzip, &whole)[..100].to_vec(),
            "the gzip stream is broken",
        ),
        (
            [compress(Codec::Gzip, &whole), b"x".to_vec()].concat(),
            "bytes after the end of the gzip stream",
        ),
        (
            [&*whole, b"more"].concat(),
            "there are bytes after the end of the tar",
        ),
        (two(file("a/b")), "a/b has more than one entry"),
        (two(file("a/../b")), "a/../b has .. in it, and 1 more"),
        (
            tar(&[file("a"), file("a/b")]),
            "a/b is in a, which is no directory",
        ),
        (
            tar(&[Entry::HardLink("a".into(), "bin/sh".into())]),
            "a is a hard link to bin/sh, which does not come before it",
        ),
    ] {
        let told = Given::new(&bytes).problem();
        assert!(told.contains(problem), "{told}\nexpected {problem}");
    }
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        let error = TarFile::open(&Context::default(), path, &StoreDir::default()).unwrap_err();
        error.to_string()
    };
    assert!(open(dir.path()).ends_with("it is no regular file, and a layer's tar is read twice"));
    assert!(open(&dir.path().join("x")).starts_with("failed to read "));
}

/// Devices are what `fakeRootCommands` of dockerTools are for.
#[test]
fn what_loaders_take_is_taken_and_told() {
    let odd = Given::new(&tar(&[Entry::Device("null".into()), file("/a/b")]));
    let tar = odd.open().unwrap();
    assert!(matches!(
        tar.problems(),
        [
            LayerProblem::UnsupportedKind { .. },
            LayerProblem::MissingParent { .. },
            LayerProblem::Absolute { .. }
        ]
    ));
    written(&with_tars(&[&odd]), odd.dir.path());
}

/// Commands give folders to everybody: dockerTools' own examples do it.
#[test]
fn modes_are_told_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/output")).unwrap();
    run(Command::new("tar")
        .args(["--mode=0777", "--create", "--file", "layer.tar"])
        .args(["--directory", "root", "output"])
        .current_dir(dir.path()));
    let open = Given::new(&fs::read(dir.path().join("layer.tar")).unwrap());
    let tar = open.open().unwrap();
    assert!(
        matches!(
            tar.problems(),
            [LayerProblem::WritableDirectory { mode: 0o777, .. }]
        ),
        "{:?}",
        tar.problems()
    );
    written(&with_tars(&[&open]), open.dir.path());
}

#[test]
fn a_tar_does_not_hide_the_store() {
    for entry in [
        symlink("nix", "data"),
        symlink("./nix/store", "/data"),
        file("nix/.wh.store"),
        file(".wh..wh..opq"),
        file("nix/store/.wh..wh..opq"),
    ] {
        let given = Given::new(&tar(&[directory("nix/"), entry.clone()]
            [usize::from(matches!(&entry, Entry::Symlink(path, _) if path == "nix"))..]));
        let mut spec = with_tars(&[&given]);
        let error = plan(&Context::default(), &spec).unwrap_err().to_string();
        assert!(
            error.contains("would hide what is in /nix/store"),
            "{error}"
        );
        // A store that is mounted is not hidden by what is below it.
        spec.store_paths = false;
        assert_eq!(plan(&Context::default(), &spec).unwrap().layers.len(), 1);
    }
    let fine = Given::new(&tar(&[
        directory("nix/"),
        directory("nix/store/"),
        file(".wh.a"),
    ]));
    assert_eq!(
        plan(&Context::default(), &with_tars(&[&fine]))
            .unwrap()
            .layers
            .len(),
        4
    );
}

#[test]
fn a_tar_takes_a_layer_of_the_budget() {
    let given = Given::new(&customisation());
    let mut spec = with_tars(&[&given, &given]);
    spec.max_layers = 3.try_into().unwrap();
    let planned = plan(&Context::default(), &spec).unwrap();
    let strategies: Vec<_> = planned.layers.iter().map(|l| &*l.strategy).collect();
    assert_eq!(strategies[1..], ["tar", "tar"]);
    assert_eq!(strategies.len(), 3);
    spec.max_layers = 2.try_into().unwrap();
    let error = plan(&Context::default(), &spec).unwrap_err().to_string();
    assert_eq!(
        error,
        "the layer budget: 2 layers are allowed, and 2 are taken by used layers, tars and the root \
         tree beside the store paths"
    );
    spec.store_paths = false;
    assert_eq!(plan(&Context::default(), &spec).unwrap().layers.len(), 2);
}

#[test]
fn a_tar_that_changes_after_it_was_planned_is_found_out() {
    let bytes = customisation();
    let given = Given::new(&bytes);
    let spec = with_tars(&[&given]);
    let attempt = || resolve(&Context::default(), &spec).unwrap_err();
    let mut other = bytes.clone();
    other[1] ^= 1;
    fs::write(&given.file, &other).unwrap();
    let error = attempt();
    assert!(
        matches!(error.kind(), ErrorKind::DigestMismatch { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("layer.tar, which was read before,"),
        "{error}"
    );
    fs::write(&given.file, &bytes[..bytes.len() - 512]).unwrap();
    let error = attempt();
    assert!(
        matches!(error.kind(), ErrorKind::SizeMismatch { .. }),
        "{error}"
    );
    fs::write(&given.file, &compress(Codec::Gzip, &bytes)[..50]).unwrap();
    assert!(attempt().to_string().contains("the gzip stream is broken"));
    fs::remove_file(&given.file).unwrap();
    assert!(attempt().to_string().starts_with("failed to read "));
}

#[test]
fn a_recipe_names_the_file_and_makes_it_again() {
    let given = Given::new(&compress(Codec::Zstd, &customisation()));
    let spec = with_tars(&[&given]);
    let recipe = resolve(&Context::default(), &spec).unwrap();
    assert_eq!(recipe.version, 2);
    assert_eq!(recipe.layers[3].tar.as_deref(), given.file.to_str());
    let again = Recipe::parse(&recipe.to_json(), "app.json").unwrap();
    assert_eq!(again, recipe);
    let parts = again.parts("app.json").unwrap();
    assert!(
        matches!(&parts.layers[3].0.content, LayerContent::Tar(tar) if tar.path() == given.file)
    );

    let registry = FakeRegistry::start();
    let content = Arc::clone(&release(1).content);
    let report = push_recipe(&registry, &again, content.clone(), "app:v1").unwrap();
    assert_eq!(report.manifest_digest.to_string(), recipe.manifest_digest);

    fs::write(&given.file, customisation().split_off(512)).unwrap();
    let error = push_recipe(&registry, &again, content, "new:v1").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error}");

    // Older programs read what they can make.
    let plain = resolve(&Context::default(), &release(1).spec).unwrap();
    assert_eq!(plain.version, 1);
}
