/**
 * The cluster_name that a control plane starts its embedded PostgreSQL with. Everybody on the host can see it in the
 * process's command line, so an agent there knows the server for what it is and does not offer it for protection.
 */
export const catalogClusterName = "coppice_catalog";
