ALTER TABLE "operation" ADD COLUMN "after_id" text;--> statement-breakpoint
ALTER TABLE "operation" ADD CONSTRAINT "operation_after_id_operation_id_fk" FOREIGN KEY ("after_id") REFERENCES "public"."operation"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "operation_parent" ON "operation" USING btree ("parent_id","id") WHERE "operation"."parent_id" is not null;--> statement-breakpoint
ALTER TABLE "operation" ADD CONSTRAINT "operation_after_sibling" CHECK ("operation"."after_id" is null or "operation"."parent_id" is not null);