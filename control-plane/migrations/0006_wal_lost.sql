CREATE TABLE "wal_lost" (
	"cluster_id" text NOT NULL,
	"repository_id" text NOT NULL,
	"system_identifier" text NOT NULL,
	"timeline" bigint NOT NULL,
	"start_lsn" "pg_lsn" NOT NULL,
	"end_lsn" "pg_lsn" NOT NULL,
	"found_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "wal_lost_pk" PRIMARY KEY("cluster_id","repository_id","system_identifier","timeline","start_lsn"),
	CONSTRAINT "wal_lost_order" CHECK ("wal_lost"."start_lsn" < "wal_lost"."end_lsn" and "wal_lost"."timeline" > 0)
);
--> statement-breakpoint
ALTER TABLE "wal_lost" ADD CONSTRAINT "wal_lost_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_lost" ADD CONSTRAINT "wal_lost_repository_id_repository_id_fk" FOREIGN KEY ("repository_id") REFERENCES "public"."repository"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "wal_lost_repository" ON "wal_lost" USING btree ("repository_id");