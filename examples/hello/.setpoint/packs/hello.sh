# Installs the command `hello`, for this environment only.
pack_hello_ensure() {
  cat > /usr/local/bin/hello <<'EOF'
#!/bin/sh
while read -r name; do echo "${GREETING:-Hi}, $name!"; done < "$SETPOINT_WORKSPACE/names.txt"
EOF
  chmod 755 /usr/local/bin/hello
}
