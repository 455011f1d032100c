/** The SSH library: loaded by whoever first opens a repository of this kind, and by nobody else. */
export async function loadSsh2() {
  const { default: ssh2 } = await import("ssh2");
  return ssh2;
}
