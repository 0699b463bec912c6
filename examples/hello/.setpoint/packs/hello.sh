# Installs the command `hello`, for this environment only. Of the folders that are the environment's own, /srv is
# one that packs can write and everybody can read, with and without privileges.
pack_hello_ensure() {
  mkdir -p /srv/bin
  cat > /srv/bin/hello <<'EOF'
#!/bin/sh
while read -r name; do echo "${GREETING:-Hi}, $name!"; done < "$SETPOINT_WORKSPACE/names.txt"
EOF
  chmod 755 /srv/bin/hello
}
