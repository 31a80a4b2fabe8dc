//! The conformance suite of the stores, run on both dialects.
//!
//! A check is an `async fn` over an empty [`Database`] of its own; the list at the
//! end runs each check on SQLite and on PostgreSQL. A check that only one dialect
//! passes is a fault of the other, or of the trait.
//!
//! [`owner`] has the helper that the checks use: an owner of a partition that
//! settles outcomes.

mod asking;
mod auditing;
mod broadcasting;
mod centre;
mod copying;
mod delayed;
mod half;
mod handled_sets;
mod identities;
mod incarnations;
mod lists;
mod message_states;
mod migrating;
mod nodes;
mod outboxes;
mod owner;
mod plugins;
mod positions;
mod postgres;
mod postgres_sessions;
mod redriving;
mod refusing;
mod relaying;
mod scopes;
mod seeking;
mod sending;
mod settling;
mod settling_many;
mod states;
mod taking;
mod undelivered;

use courier::store::SharedStore;
use sqlx::Connection as _;

/// The dialects.
#[derive(Clone, Copy, Debug)]
pub enum Dialect {
    /// A file for each check.
    Sqlite,
    /// A database for each check, on the shared server.
    Postgres,
}

/// An empty database of one dialect.
pub struct Database {
    /// The URL, as `[store] url` has it.
    url: String,
    /// Removes the file when the check is over.
    _directory: Option<tempfile::TempDir>,
}

impl Database {
    async fn create(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Sqlite => {
                let directory = tempfile::tempdir().expect("a directory for the database");
                let url = format!("sqlite://{}", directory.path().join("courier.db").display());
                Self { url, _directory: Some(directory) }
            }
            Dialect::Postgres => {
                let created = tokio::task::spawn_blocking(|| courier_tests::postgres().create_database());
                let url = created.await.expect("creating a database ends").expect("a database on the shared server");
                Self { url, _directory: None }
            }
        }
    }

    /// Runs statements on the database itself, as an administrator would.
    pub async fn execute(&self, statements: &str) {
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        let done = if self.url.starts_with("sqlite:") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.expect("the file is there");
            sqlx::raw_sql(statements).execute(&mut connection).await.map(|_| ())
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.expect("the server is there");
            sqlx::raw_sql(statements).execute(&mut connection).await.map(|_| ())
        };
        done.expect("the statements are right");
    }

    /// Opens the store. Opened again, it is the store of another host.
    pub async fn open(&self) -> SharedStore {
        courier::store::open(&self.url).await.expect("the store opens")
    }
}

/// Runs every check on both dialects.
macro_rules! on_both_dialects {
    ($($family:ident: $($check:ident)+;)+) => {
        mod on_sqlite {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$family::$check(super::Database::create(super::Dialect::Sqlite).await).await;
            })+)+
        }
        mod on_postgres {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$family::$check(super::Database::create(super::Dialect::Postgres).await).await;
            })+)+
        }
    };
}

on_both_dialects! {
    handled_sets:
        what_is_handled_at_once_has_a_bit_and_no_row
        a_claim_learns_what_the_sets_hold_above_the_position
        nothing_of_a_settle_that_failed_is_in_a_set
        segments_of_a_minute_that_is_over_are_joined
        a_seek_backward_takes_bits_back
        a_seek_over_what_was_replayed_counts_it_once
        retention_forgets_sets_below_their_position
        a_redrive_takes_what_has_only_a_bit
        what_has_only_a_bit_is_not_asked_for_by_its_id;
    nodes:
        a_name_is_held_by_one_process_at_a_time
        a_lease_that_ran_out_is_free
        a_dead_holder_is_evicted_only_while_it_holds
        nodes_are_listed_live_ones_first
        a_node_that_left_is_listed_until_retention_forgets_it
        what_live_nodes_bind_is_told;
    positions:
        a_topic_is_begun_once
        every_claim_counts_the_epoch_up
        a_partition_without_a_position_starts_at_the_fallback
        a_claim_tells_what_is_settled_and_what_is_open
        another_topic_id_begins_a_new_incarnation
        a_log_that_ends_before_the_position_begins_a_new_incarnation
        an_unknown_topic_id_is_learnt_and_changes_nothing
        a_lost_range_moves_the_position_under_its_epoch;
    incarnations:
        a_log_that_lost_its_end_goes_on_at_its_end
        what_ran_before_kafka_told_of_a_new_topic_is_listed
        the_range_lost_with_a_topic_reaches_to_its_last_known_end
        partitions_that_a_new_topic_does_not_have_are_ended
        a_partition_that_was_added_waits_for_the_older_ones
        the_id_of_an_earlier_topic_is_no_new_topic;
    settling:
        a_settle_advances_the_sequence_by_exactly_one
        a_settle_repeated_after_a_lost_answer_writes_nothing_twice
        parts_of_an_older_epoch_are_left_out_and_reported
        parts_of_two_epochs_of_a_position_are_told_apart
        a_piece_before_its_position_is_known_to_the_next_claim
        an_outcome_must_know_whether_it_has_an_open_row
        a_delivery_cannot_end_twice
        a_retry_keeps_its_record_and_counts_on
        a_failure_keeps_its_record_and_a_success_drops_it
        what_ends_without_its_record_keeps_the_message_of_its_row
        the_position_never_goes_back
        text_with_nul_and_keys_of_any_bytes_are_stored
        effects_commit_with_the_outcome_or_not_at_all
        the_last_state_write_of_a_key_stays
        what_the_state_of_a_group_holds_is_counted_and_forgotten
        totals_count_what_is_open_and_what_has_ended;
    settling_many:
        five_thousand_outcomes_are_one_settle
        two_writers_settle_side_by_side
        two_settles_with_one_sequence_are_one
        many_parts_and_shapes_are_one_settle;
    auditing:
        entries_of_the_audit_log_are_sealed_in_their_order
        retention_leaves_the_audit_log_an_anchor
        what_is_done_in_somebodys_name_leaves_one_entry
        what_the_host_does_itself_leaves_no_entry
        what_changes_nothing_can_be_an_entry_too
        what_is_refused_leaves_no_entry
        a_change_whose_entry_cannot_be_written_is_not_made;
    broadcasting:
        a_listener_begins_at_the_end_and_goes_on_where_it_was
        a_listener_away_for_too_long_is_forgotten
        a_listener_that_catches_up_goes_on_where_it_was
        addresses_are_shared_among_the_hosts_of_a_service
        an_address_whose_lease_is_over_goes_to_another_host
        the_addresses_of_two_services_are_apart
        broadcasts_that_nobody_heard_are_told
        what_was_heard_of_a_former_topic_does_not_count
        what_was_handled_is_found_within_the_window;
    asking:
        an_open_delivery_that_is_asked_for_is_due
        a_held_delivery_that_is_asked_for_runs
        a_handled_delivery_that_is_asked_for_is_open_again
        a_failed_delivery_that_is_asked_for_ends_again
        what_cannot_be_asked_for_says_why
        wishes_are_read_in_order_and_none_is_passed_over
        a_wish_survives_the_outcome_of_a_running_attempt
        what_is_given_up_is_marked_for_its_owner
        what_cannot_be_given_up_says_why;
    redriving:
        a_plan_is_what_matches_now
        a_redrive_goes_through_its_states_and_no_others
        items_are_asked_for_under_the_lease_and_end_with_their_deliveries
        what_changed_since_the_plan_is_skipped_with_a_reason
        a_cancelled_redrive_skips_what_waits_and_finishes_what_runs
        redrives_of_one_group_keep_no_other_group_waiting
        a_redrive_of_a_dead_host_is_taken_over_where_it_was
        what_waits_for_a_retry_is_told_from_what_is_under_way
        a_replay_opens_what_has_no_row_and_skips_holes
        redrives_are_listed_newest_first_and_forgotten_in_time
        a_group_has_a_bounded_number_of_redrives_that_did_not_end
        no_token_has_all_the_redrives_of_a_group
        a_plan_that_nobody_runs_is_forgotten_after_a_day;
    states:
        every_arrow_is_taken_or_refused;
    scopes:
        deliveries_of_other_topics_are_not_told_of
        deliveries_of_one_id_are_told_apart_by_their_source
        dead_letters_of_other_topics_are_not_told_of
        parked_lanes_of_other_topics_are_not_told_of
        redrives_of_other_topics_are_not_told_of;
    seeking:
        a_seek_backward_runs_again_what_lies_between
        a_seek_forward_records_what_it_skips
        what_a_seek_skipped_is_not_lost_once_it_is_sought_again
        a_seek_moves_all_positions_or_none
        open_rows_are_walked_by_the_page;
    plugins:
        a_version_is_stored_once
        an_upload_puts_an_altered_component_right
        the_active_version_is_one_that_exists
        a_live_node_that_did_not_prepare_is_named;
    sending:
        an_id_is_accepted_once
        an_id_twice_in_one_batch_is_one_message
        what_kafka_has_already_is_taken_once
        the_rows_of_a_batch_keep_its_order_whatever_is_there
        a_direct_send_and_the_relay_that_end_at_once_leave_one_place
        a_message_sent_directly_is_committed_where_it_is
        a_message_that_was_not_sent_is_the_relays
        a_direct_send_that_kafka_refused_is_no_debt
        a_dead_letter_is_not_taken_for_its_message
        a_handlers_row_is_not_taken_for_a_senders_message
        a_refused_message_is_not_sent_again
        a_refused_message_is_replaced_only_by_its_own_sender
        a_key_is_made_once_and_shared
        messages_are_listed_by_what_they_are;
    identities:
        messages_of_an_id_are_found_on_their_topic_among_many_others
        one_id_of_two_sources_is_two_messages
        one_id_on_two_topics_is_two_messages
        two_outboxes_with_one_row_id_send_both
        a_broadcast_that_is_sent_again_goes_to_its_companion
        messages_of_one_id_are_listed_without_loss;
    migrating:
        an_exclusive_migration_waits_for_hosts_of_an_older_version
        what_an_older_version_kept_is_found_and_sent;
    outboxes:
        rows_of_an_outbox_are_taken_under_the_epoch_of_its_shard
        what_has_ended_is_told
        what_is_noted_of_an_outbox_is_told_with_its_cause
        rows_of_an_outbox_are_counted_once
        a_refused_message_makes_room_for_a_corrected_one;
    delayed:
        a_delayed_message_waits_and_is_committed
        what_is_due_leaves_in_the_order_it_is_due
        nothing_is_due_early_by_the_stores_clock
        an_older_epoch_lets_nothing_go
        a_message_that_waits_can_be_cancelled
        a_message_that_is_just_due_goes_or_is_cancelled
        what_is_due_while_kafka_is_away_says_so
        many_are_moved_in_bounded_steps
        what_is_due_costs_the_same_however_many_wait
        delayed_messages_are_listed_by_when_they_are_due
        retention_leaves_what_waits_alone;
    half:
        a_prepared_message_is_not_there_and_a_committed_one_is
        a_transaction_ends_once
        what_a_token_has_prepared_is_counted
        an_asking_is_claimed_by_one_host_at_a_time
        a_transaction_that_nobody_can_be_asked_about_counts_no_asking
        a_transaction_does_not_take_an_id_of_something_else
        a_prepared_transaction_holds_its_identities
        a_sent_message_that_is_prepared_twice_is_a_conflict
        of_a_message_and_a_transaction_that_meet_one_has_the_identity
        an_abandoned_transaction_can_still_commit
        a_transaction_commits_only_what_is_sent
        what_cannot_be_asked_is_kept_until_retention
        ends_that_meet_are_one
        transactions_are_listed_by_the_topics_that_they_are_about
        transactions_are_listed_newest_first_and_forgotten;
    message_states:
        every_arrow_of_a_message_is_gone_along
        every_other_arrow_of_a_message_is_refused;
    relaying:
        shards_are_leased_to_one_writer_at_a_time
        a_dead_nodes_shards_are_free_at_once
        rows_leave_in_order_and_a_waiting_one_hides_its_key
        a_chosen_partition_stays_and_an_old_epoch_chooses_nothing
        what_an_older_epoch_relayed_is_left_alone
        an_emission_is_listed_once_kafka_has_it
        a_row_that_kafka_refuses_can_be_resent
        a_row_held_for_a_direct_send_is_not_relayed;
    taking:
        a_silent_partition_gives_no_row_but_the_one_that_asks_it
        a_row_stays_behind_what_is_left_out_of_its_key
        what_is_under_way_hides_all_rows_of_its_keys;
    undelivered:
        what_is_undelivered_keeps_its_whole_content
        undelivered_totals_count_what_their_filter_lists
        what_is_undelivered_is_sent_again_repaired_or_given_up
        a_row_of_an_outbox_is_kept_once
        topics_that_wait_give_only_rows_that_were_never_tried
        lanes_with_unsent_rows_are_told;
    refusing:
        a_refusal_that_lasts_is_told_from_the_data
        a_store_that_takes_writes_says_so
        what_is_settled_above_the_position_outlives_retention;
    copying:
        rows_without_records_near_their_end_are_told
        records_are_copied_up_to_a_bound_of_their_own
        a_copy_ends_with_its_delivery
        an_older_epoch_copies_nothing;
    lists:
        pages_go_through_ties_without_loss
        open_and_final_deliveries_are_one_list
        filters_find_what_they_name
        a_delivery_is_found_with_its_record
        rare_rows_are_found_behind_many_others
        the_one_attempt_of_a_success_is_told
        retention_removes_the_old_and_keeps_the_open
        pauses_are_kept_until_they_are_lifted
        a_new_opening_sees_everything;
    centre:
        a_session_lasts_until_it_ends
        the_oldest_sessions_of_a_token_end_past_its_bound
        minutes_are_summed_over_processes_and_written_again_without_harm
        failures_are_put_together_by_fingerprint
        failures_of_another_topic_hide_none
        parked_lanes_are_listed_by_their_heads
        a_dead_letter_is_known_with_its_outcome
        letters_of_one_id_and_two_sources_have_fates_of_their_own;
}
