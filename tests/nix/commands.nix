# Images whose roots shell commands change, as dockerTools takes them.
{
  # The binary under test.
  bin,
}:
let
  tools = import ./tools.nix {
    inherit bin;
    overlays = [ (import ./packages.nix) ];
  };
  inherit (tools) pkgs dockerTools;
in
rec {
  # Both kinds, and the second sees what the first did.
  both = dockerTools.buildLayeredImage {
    name = "both";
    tag = "latest";
    contents = [ pkgs.busybox ];
    extraCommands = "echo '(extraCommands)' > extraCommands";
    fakeRootCommands = ''
      cat extraCommands > fakeRootCommands
      echo '(fakeRootCommands)' >> fakeRootCommands
    '';
  };

  # Attributes that data gave, that commands gave, and that they took away.
  attributes = dockerTools.buildLayeredImage {
    name = "attributes";
    tag = "latest";
    contents = [ pkgs.busybox ];
    rootTree.files = [
      {
        path = "/srv/serve";
        text = "serve";
        mode = "0755";
        owner = "7:8";
        capabilities = "cap_net_bind_service=ep";
        xattrs."user.origin" = "data";
      }
      {
        path = "/srv/plain";
        text = "plain";
        capabilities = "cap_net_raw=ep";
      }
      {
        path = "/srv/ping";
        text = "ping";
      }
    ];
    rules = [
      {
        glob = "/srv/by rule";
        xattrs."user.rule" = "yes";
      }
    ];
    extraCommands = "chmod u+s srv/serve";
    fakeRootCommands = ''
      ${pkgs.libcap}/bin/setcap cap_net_admin,cap_net_raw=ep srv/ping
      ${pkgs.libcap}/bin/setcap -r srv/plain
      chown 9:9 srv/ping
      cp srv/serve srv/made
      chown 0:0 srv/made
      ${pkgs.libcap}/bin/setcap cap_net_raw=ep srv/made
    '';
  };

  # The same without an attribute, which is to have the bytes it always had.
  no-attributes = attributes.override {
    rootTree = null;
    extraCommands = "mkdir srv; echo ping > srv/ping";
    fakeRootCommands = "chown 9:9 srv/ping";
  };
}
