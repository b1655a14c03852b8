# Images and layers of registries as fixed outputs.
{
  arguments,
  platforms,
  run,
  pkgs,
  nix2oci,
  hostSystem,
}:
let
  inherit (builtins)
    fromJSON
    replaceStrings
    toJSON
    ;
  inherit (arguments)
    checked
    checking
    flag
    flags
    makeOverridable
    optional
    ;
  inherit (pkgs.buildPackages) runCommand skopeo;

  hostPlatform = platforms.ofSystem hostSystem;

  # What a builder with a network needs of the outside: proxies, a file with
  # credentials, and certificates of authorities.
  outside = {
    impureEnvVars = [
      "http_proxy"
      "https_proxy"
      "all_proxy"
      "no_proxy"
      "HTTP_PROXY"
      "HTTPS_PROXY"
      "ALL_PROXY"
      "NO_PROXY"
      "REGISTRY_AUTH_FILE"
    ];
    SSL_CERT_FILE = "${pkgs.buildPackages.cacert}/etc/ssl/certs/ca-bundle.crt";
  };

  # A hash as nixpkgs' fetchers take it: in `hash`, or in `sha256`, or in
  # `outputHash` and `outputHashAlgo`.
  hashOf =
    function: args:
    if args ? hash then
      {
        outputHash = args.hash;
      }
      # Nix asks what an empty one would be of.
      // (if args.hash == "" then { outputHashAlgo = "sha256"; } else { })
    else if args ? sha256 then
      {
        outputHash = args.sha256;
        outputHashAlgo = "sha256";
      }
    else if args ? outputHash then
      {
        inherit (args) outputHash;
      }
      // (if args.outputHashAlgo or null == null then { } else { inherit (args) outputHashAlgo; })
    else
      throw "${function}: the hash is missing; with `hash = \"\";` Nix tells which it is";

  # A function whose arguments come with such a hash, which it takes first.
  withHash =
    function: f: args:
    let
      hashes = {
        hash = true;
        sha256 = true;
        outputHash = true;
        outputHashAlgo = true;
      };
      known = checked function (builtins.functionArgs (f { }) // hashes) args;
    in
    f (hashOf function known) (removeAttrs known (builtins.attrNames hashes));

  fileName = replaceStrings [ "/" ":" "@" ] [ "-" "-" "-" ];
  hex = digest: replaceStrings [ "sha256:" ] [ "" ] digest;

  insecure = tlsVerify: optional (!tlsVerify) [ "--tls-verify=false" ];

  # A layer that a lock names, as a file.
  blobOf =
    tlsVerify: lock: digest:
    run {
      name = hex digest;
      words = [
        "lock"
        "--fetch"
        digest
        "${lock}"
      ]
      ++ insecure tlsVerify
      ++ flag "-o" (placeholder "out");
      extra = outside // {
        outputHashMode = "flat";
        outputHashAlgo = "sha256";
        outputHash = hex digest;
      };
    };
in
{
  # An image of a registry as an archive, by the program that nixpkgs has for it:
  # the hash is of that program's file, and so is the same.
  pullImage =
    function:
    makeOverridable (
      withHash function (
        hash:
        {
          imageName,
          imageDigest,
          os ? "linux",
          arch ? hostPlatform.architecture,
          variant ? if arch == hostPlatform.architecture then hostPlatform.variant or null else null,
          finalImageName ? imageName,
          finalImageTag ? "latest",
          tlsVerify ? true,
          name ? fileName "docker-image-${finalImageName}-${finalImageTag}.tar",
        }:
        runCommand name
          (
            outside
            // {
              image = "docker://${imageName}@${imageDigest}";
              imageName = finalImageName;
              imageTag = finalImageTag;
              nativeBuildInputs = [ skopeo ];
              outputHashMode = "flat";
            }
            // hash
          )
          ''
            skopeo --insecure-policy --tmpdir="$TMPDIR" ${arguments.quoted (
              flag "--override-os" os
              ++ flag "--override-arch" arch
              ++ optional (variant != null && variant != "") (flag "--override-variant" variant)
            )} copy --quiet ${if tlsVerify then "" else "--src-tls-verify=false"} \
              "$image" "docker-archive:$out:$imageName:$imageTag"
          ''
      )
    );

  # The images that a lock pins, each layer a derivation of its own: a base image
  # that is fetched once for all that have a layer of it, and known without
  # another hash. `nix2oci lock docker://IMAGE -o FILE` makes the lock.
  pullImageFromLock = makeOverridable (checking "pullImageFromLock" (
    {
      # The lock, a file beside the expression.
      lock,
      # Which of its images, if there are several: what it is called there.
      tag ? null,
      tlsVerify ? true,
      name ? "image-of-lock",
    }:
    let
      # A store path of its own, whatever folder it lies in.
      file = if builtins.isPath lock then builtins.path { path = lock; } else lock;
      pinned = fromJSON (builtins.readFile lock);
      blobs = map (blob: blobOf tlsVerify file blob.digest) pinned.blobs;
      image = "lock:${file}" + (if tag == null then "" else ":${tag}");
      given = flags "--blob" blobs;
    in
    run {
      inherit name;
      words = [
        "copy"
        image
      ]
      ++ given
      ++ flag "-o" "oci:${placeholder "out"}";
    }
    // {
      inherit blobs lock;
      # As a base it needs no copy of the layers.
      fromOptions = flag "--from" image ++ given;
    }
  ));

  # nix2container's functions; skopeo's `dir:` is what their hashes are of.
  nix2container = rec {
    pullImage = makeOverridable (
      withHash "nix2container.pullImage" (
        hash:
        {
          imageName,
          imageDigest,
          os ? "linux",
          arch ? hostPlatform.architecture,
          tlsVerify ? true,
          name ? fileName "docker-image-${imageName}",
        }:
        layoutOf {
          inherit imageName;
          directory = runCommand name (
            outside
            // {
              image = "docker://${imageName}@${imageDigest}";
              platform = "${os}/${arch}";
              outputHashMode = "recursive";
            }
            // hash
          ) ''
            digest=$(${nix2oci}/bin/nix2oci copy "$image" --platform "$platform" \
              ${toString (insecure tlsVerify)} --progress plain -o oci:layout)
            mkdir "$out"
            mv "layout/blobs/sha256/''${digest#sha256:}" "$out/manifest.json"
            mv layout/blobs/sha256/* "$out"
            echo "Directory Transport Version: 1.1" > "$out/version"
          '';
        }
      )
    );

    pullImageFromManifest = makeOverridable (checking "nix2container.pullImageFromManifest" (
      {
        imageName,
        # null: only getManifest is asked for.
        imageManifest ? null,
        # These say which manifest getManifest gets.
        imageTag ? "latest",
        os ? "linux",
        arch ? hostPlatform.architecture,
        tlsVerify ? true,
        registryUrl ? "registry-1.docker.io",
      }:
      let
        repository = "${registryUrl}/${imageName}";
        manifest = fromJSON (builtins.readFile imageManifest);
        # A lock without images, in which a blob is found by its digest.
        lock = pkgs.writeText "${baseNameOf imageName}-blobs.json" (toJSON {
          version = 1;
          images = [ ];
          documents = [ ];
          blobs = map (blob: {
            inherit (blob) digest size mediaType;
            from = [ repository ];
          }) ([ manifest.config ] ++ manifest.layers);
        });
        blob = { digest, ... }: blobOf tlsVerify lock digest;

        getManifest = pkgs.buildPackages.writeShellScriptBin "get-manifest" ''
          ${nix2oci}/bin/nix2oci lock ${
            arguments.quoted (
              [ "docker://${repository}:${imageTag}" ] ++ flag "--platform" "${os}/${arch}" ++ insecure tlsVerify
            )
          } "$@" |
            ${pkgs.buildPackages.jq}/bin/jq --join-output \
              '.images[0].digest as $digest | .documents[] | select(.digest == $digest) | .text'
        '';
      in
      layoutOf {
        inherit imageName;
        directory = runCommand "${fileName imageName}-blobs" { preferLocalBuild = true; } ''
          mkdir "$out"
          cp ${imageManifest} "$out/manifest.json"
          for blob in ${toString (map blob ([ manifest.config ] ++ manifest.layers))}; do
            ln -s "$blob" "$out/$(basename "$blob" | cut -d - -f 2)"
          done
        '';
      }
      // {
        inherit getManifest;
      }
    ));

    # A layout of what skopeo calls a directory: manifest.json, and blobs named
    # by their digests.
    layoutOf =
      { imageName, directory }:
      runCommand "${fileName (baseNameOf imageName)}-oci" { preferLocalBuild = true; } ''
        mkdir -p "$out/blobs/sha256"
        manifest=${directory}/manifest.json
        digest=$(sha256sum < "$manifest" | cut -d ' ' -f 1)
        ln -s "$manifest" "$out/blobs/sha256/$digest"
        for blob in ${directory}/*; do
          case ''${blob##*/} in
          manifest.json | version) ;;
          *) ln -s "$blob" "$out/blobs/sha256/''${blob##*/}" ;;
          esac
        done
        mediaType=$(tr -d ' \n' < "$manifest" |
          grep -o '"mediaType":"[^"]*manifest[^"]*"' | head -n 1 | cut -d '"' -f 4) ||
          mediaType=application/vnd.oci.image.manifest.v1+json
        echo '{"imageLayoutVersion":"1.0.0"}' > "$out/oci-layout"
        printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"sha256:%s","size":%s}]}' \
          "$mediaType" "$digest" "$(stat -L -c %s "$manifest")" > "$out/index.json"
      '';
  };
}
