ALTER TABLE "repository" ADD COLUMN "encryption" jsonb;--> statement-breakpoint
ALTER TABLE "repository" ADD COLUMN "identity_secret_id" text;--> statement-breakpoint
ALTER TABLE "repository" ADD CONSTRAINT "repository_identity_secret_id_secret_id_fk" FOREIGN KEY ("identity_secret_id") REFERENCES "public"."secret"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "repository" ADD CONSTRAINT "repository_identity_of_encrypted" CHECK ("repository"."identity_secret_id" is null or "repository"."encryption" is not null);