/** Where the parts of a throwaway cluster of Ceph are, and how they are reached. */
export interface CephFolders {
  /** Its folder; short, because sockets lie below it. */
  readonly folder: string;
  readonly fsid: string;
  /** TCP port of the monitor on 127.0.0.1. */
  readonly monitorPort: number;
}

/**
 * Text of ceph.conf for one monitor and one OSD on loopback, as small and quick as it goes. The gateway cannot do
 * without cephx, so one keyring serves all.
 */
export function cephConfiguration({ folder, fsid, monitorPort }: CephFolders): string {
  return format({
    global: {
      fsid,
      mon_initial_members: "a",
      mon_host: `[v2:127.0.0.1:${monitorPort}/0]`,
      public_addr: "127.0.0.1",
      cluster_addr: "127.0.0.1",
      ms_bind_msgr1: "false",
      auth_cluster_required: "cephx",
      auth_service_required: "cephx",
      auth_client_required: "cephx",
      keyring: `${folder}/keyring`,
      run_dir: folder,
      admin_socket: "",
      log_file: `${folder}/$name.log`,
      crash_dir: folder,
      pid_file: "",
      osd_pool_default_size: "1",
      osd_pool_default_min_size: "1",
      osd_pool_default_pg_num: "8",
      osd_pool_default_pgp_num: "8",
      osd_pool_default_pg_autoscale_mode: "off",
      osd_crush_chooseleaf_type: "0",
    },
    mon: {
      mon_data: `${folder}/mon`,
      mon_allow_pool_size_one: "true",
      mon_max_pg_per_osd: "2000",
      mon_data_avail_warn: "1",
      mon_data_avail_crit: "0",
      mon_cluster_log_file: `${folder}/cluster.log`,
      // Every pool that the gateway makes is a round of these.
      paxos_propose_interval: "0.05",
      paxos_min_wait: "0.01",
    },
    osd: {
      osd_data: `${folder}/osd`,
      // In memory: with fsyncs to a busy disk a put takes ten times as long.
      osd_objectstore: "memstore",
      memstore_device_bytes: String(8 * 2 ** 30),
      osd_memory_target: String(2 ** 30),
      osd_scrub_begin_hour: "0",
      osd_op_num_shards: "2",
    },
    client: {
      rgw_data: `${folder}/rgw`,
      rgw_dns_name: "localhost",
      rgw_enable_usage_log: "false",
      rgw_enable_ops_log: "false",
      rgw_dynamic_resharding: "false",
      rgw_override_bucket_index_max_shards: "1",
      // Deleted bytes go soon, so that a sparse file stays small.
      rgw_gc_obj_min_wait: "60",
      rgw_gc_processor_period: "60",
      rgw_num_rados_handles: "1",
      rgw_thread_pool_size: "64",
    },
  });
}

function format(sections: Readonly<Record<string, Readonly<Record<string, string>>>>): string {
  return Object.entries(sections)
    .map(([section, settings]) => {
      const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
      return `[${section}]\n${lines.join("")}`;
    })
    .join("\n");
}
