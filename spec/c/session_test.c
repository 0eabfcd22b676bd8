/* eb_session against a scripted broker, on a clock that the test moves: bytes in, events out. */
#include "session_user.h"

#include "session_test_handshake.c"
#include "session_test_frames.c"
#include "session_test_cuts.c"
#include "session_test_publish.c"
#include "session_test_renewal.c"
#include "session_test_unconfirmed.c"
#include "session_test_rpc.c"
#include "session_test_consume.c"
#include "session_test_prefetch.c"
#include "session_test_life.c"
#if defined(__GLIBC__)
#include "session_test_memory.c"
#define MALLOC_IS_OURS 1
#endif

int main (void) {
  RUN(handshake_with_plain_reaches_up);
  RUN(handshake_with_external_sends_no_secret);
  RUN(a_mechanism_that_is_not_offered_is_refused);
  RUN(the_client_tells_its_properties_and_capabilities);
  RUN(tune_takes_the_smaller_and_zero_means_no_limit);
  RUN(a_heartbeat_over_65535_seconds_is_not_taken_for_none);
  RUN(frames_below_4096_bytes_are_a_protocol_error);
  RUN(a_close_during_the_handshake_is_named_and_answered);
  RUN(a_limit_of_connections_is_not_taken_for_a_refusal);
  RUN(a_server_that_answers_with_its_protocol_header_is_a_protocol_error);
  RUN(what_is_not_amqp_is_a_protocol_error);
  RUN(bytes_after_the_end_say_why_again);
  RUN(handshake_methods_at_the_wrong_time_are_protocol_errors);
  RUN(a_broken_connection_does_not_break_the_next);
  RUN(messages_arrive_however_the_bytes_are_cut);
  RUN(messages_arrive_when_the_bytes_are_cut_once_anywhere);
  RUN(a_conversation_cut_anywhere_comes_to_the_same);
  RUN(frames_that_break_the_protocol_end_the_connection);
  RUN(headers_nested_5000_deep_are_left_out_and_the_message_delivered);
  RUN(property_flags_that_are_none_of_basics_are_ignored);
  RUN(a_deep_table_larger_than_its_frame_is_the_brokers_mistake);
  RUN(tables_that_overlap_cannot_nest_deeper_than_counted);
  RUN(a_client_method_from_the_server_is_not_decoded);
  RUN(server_properties_nested_5000_deep_are_refused);
  RUN(a_body_over_the_limit_is_delivered_without_it);
  RUN(a_publish_is_sent_whole_and_answered_by_its_confirm);
  RUN(a_body_larger_than_a_frame_is_sent_in_several);
  RUN(a_publish_that_cannot_be_encoded_fails_alone);
  RUN(confirms_come_single_multiple_out_of_order_and_repeated);
  RUN(a_confirm_of_a_tag_never_published_is_a_protocol_error);
  RUN(a_return_before_its_ack_makes_it_returned);
  RUN(a_return_without_message_id_is_of_a_mandatory_publish);
  RUN(the_window_is_full_by_count);
  RUN(the_window_is_full_by_bytes);
  RUN(more_than_the_output_holds_goes_on_as_soon_as_it_is_written);
  RUN(publishes_time_out_pending_and_in_flight);
  RUN(a_timeout_without_connection_says_why_there_is_none);
  RUN(a_blocked_broker_gets_no_publishes_and_they_time_out_as_blocked);
  RUN(unconfirmed_are_sent_again_in_order_with_the_same_ids);
  RUN(unconfirmed_are_unknown_when_resending_is_off);
  RUN(a_channel_error_finds_the_guilty_and_confirms_the_others);
  RUN(the_guilty_is_found_also_as_the_last_in_front_of_new_ones);
  RUN(a_channel_error_does_not_blame_the_only_one_not_timed_out);
  RUN(a_channel_error_without_resend_leaves_the_others_unknown);
  RUN(a_publishing_channel_refused_at_once_is_tried_again_later);
  RUN(a_channel_that_is_refused_for_a_second_is_renewed_once_all_is_answered);
  RUN(what_is_not_answered_holds_a_renewal_up_for_a_moment_and_once_timed_out_not_at_all);
  RUN(a_publisher_that_is_refused_each_time_renews_its_channel_every_ten_seconds_at_most);
  RUN(what_is_refused_too_slowly_for_a_renewal_costs_the_connection_at_the_second_and_is_sent_again);
  RUN(nothing_is_given_up_while_the_broker_is_blocked_and_what_waited_has_its_time_after_that);
  RUN(nothing_is_given_up_for_what_has_not_been_written);
  RUN(what_is_sent_already_is_sent_again_though_nothing_else_waits);
  RUN(a_channel_that_the_broker_does_not_close_costs_the_connection_and_nothing_is_repeated);
  RUN(a_channel_or_connection_that_is_lost_while_a_renewal_is_due_has_it_no_longer);
  RUN(a_close_sends_what_a_renewal_holds_back);
  RUN(nacks_of_many_at_a_time_count_and_those_of_what_was_answered_do_not);
  RUN(an_unconfirmed_publish_is_answered_when_it_is_sent_on_a_channel_without_confirms);
  RUN(an_unconfirmed_publish_takes_no_room_in_the_window);
  RUN(an_unconfirmed_publish_waits_for_a_connection_and_is_not_sent_twice);
  RUN(an_unconfirmed_publish_waits_while_the_broker_is_blocked_and_times_out_as_blocked);
  RUN(a_closed_channel_of_unconfirmed_publishes_is_told_and_opened_again_later);
  RUN(close_sends_the_unconfirmed_that_wait_before_its_goodbye);
  RUN(close_waits_for_its_deadline_at_most_when_the_broker_does_not_deal_with_them);
  RUN(close_hears_of_an_unconfirmed_publish_that_the_broker_refuses);
  RUN(an_unconfirmed_publish_without_a_channel_fails_and_those_with_a_confirm_go_on);
  RUN(publishes_with_and_without_a_confirm_take_turns_at_the_output);
  RUN(calls_are_pipelined_and_answered_in_order);
  RUN(every_call_has_its_method_and_its_reply);
  RUN(a_reply_of_another_kind_is_a_protocol_error);
  RUN(a_name_or_table_too_large_fails_its_call_alone);
  RUN(a_channel_close_is_the_oldest_calls_and_the_rest_are_sent_again);
  RUN(a_call_times_out_and_its_late_reply_keeps_the_order);
  RUN(a_call_that_timed_out_is_never_sent_again_after_a_channel_error);
  RUN(calls_survive_a_lost_connection_but_not_three);
  RUN(get_brings_a_message_or_none);
  RUN(a_get_that_timed_out_is_given_back_when_it_arrives);
  RUN(a_reconnect_restores_the_topology_then_the_consumers);
  RUN(a_restoration_that_fails_is_told_and_consumers_start_all_the_same);
  RUN(a_restoration_without_an_answer_is_told_and_consumers_start_all_the_same);
  RUN(a_restoration_may_take_long_while_answers_come);
  RUN(a_connection_lost_while_restoring_restores_from_the_beginning);
  RUN(what_was_unbound_or_deleted_is_not_restored);
  RUN(a_passive_declaration_is_not_restored);
  RUN(a_queue_named_by_the_server_keeps_its_first_name_for_users);
  RUN(a_deleted_queue_that_the_server_named_is_not_restored);
  RUN(the_same_binding_with_arguments_is_recorded_once_and_others_beside_it);
  RUN(a_binding_is_restored_after_what_it_binds_though_another_had_declared_that_first);
  RUN(an_exchange_declared_anew_with_another_type_is_restored_with_that);
  RUN(qos_comes_before_consume_and_prefetch_is_never_zero);
  RUN(acks_coalesce_only_up_to_the_lowest_unsettled);
  RUN(rejects_are_sent_at_once);
  RUN(what_is_given_back_goes_together_after_the_acks);
  RUN(settlements_of_an_earlier_connection_or_channel_are_never_sent);
  RUN(deliveries_not_taken_when_the_connection_is_lost_are_dropped);
  RUN(a_delivery_settled_twice_is_sent_once);
  RUN(a_server_cancel_restores_the_topology_and_subscribes_again_later_and_later);
  RUN(many_cancelled_consumers_restore_the_topology_once);
  RUN(subscribing_to_a_missing_queue_answers_not_found);
  RUN(a_subscription_that_does_not_start_in_time_leaves_nothing_behind);
  RUN(nothing_is_settled_on_a_channel_being_closed);
  RUN(what_is_restored_does_not_overtake_a_deletion_under_way);
  RUN(closes_that_cross_keep_the_connection);
  RUN(a_number_whose_closes_crossed_is_not_used_before_both_are_answered);
  RUN(closes_that_crossed_are_forgotten_with_their_connection);
  RUN(a_cancel_that_timed_out_before_its_consumer_started_is_still_carried_out);
  RUN(a_cancel_whose_time_is_over_together_with_that_of_its_start_is_answered_at_once);
  RUN(a_cancel_drains_and_closes_the_channel);
  RUN(a_cancel_is_answered_in_every_state_of_its_consumer);
  RUN(a_consumer_that_breaks_three_connections_while_starting_is_given_up);
  RUN(channels_run_out_for_consumers_alone);
  RUN(fewer_channels_after_a_reconnect_leave_consumers_waiting);
  RUN(more_than_the_prefetch_is_a_protocol_error_and_settles_nothing);
  RUN(an_ack_makes_room_only_once_it_is_sent);
  RUN(what_is_out_since_before_a_cancel_is_not_counted_by_the_broker);
  RUN(a_stream_is_sent_by_chunks_and_bounded_by_memory);
  RUN(a_stream_that_is_settled_goes_on);
  RUN(heartbeats_are_sent_after_half_the_interval_of_silence);
  RUN(a_peer_silent_for_two_intervals_is_lost);
  RUN(without_heartbeats_silence_is_no_failure);
  RUN(a_socket_that_takes_nothing_does_not_pile_up_heartbeats);
  RUN(close_waits_for_the_unconfirmed_flushes_acks_and_says_goodbye);
  RUN(close_without_connection_is_done_when_nothing_waits);
  RUN(close_reconnects_for_what_is_unconfirmed);
  RUN(close_does_not_wait_for_replies_that_nobody_waits_for);
  RUN(close_is_done_at_its_deadline_and_fail_answers_all);
  RUN(fail_answers_at_once_also_what_comes_later_until_attach);
  RUN(fail_in_the_middle_of_everything_is_survived);
  RUN(a_failed_session_that_restores_lets_consumers_start_after_attach);
  RUN(a_storm_answers_every_operation_exactly_once);
  RUN(what_a_close_says_is_never_empty_and_fit_for_a_terminal);
  RUN(random_frames_never_crash);
#if defined(MALLOC_IS_OURS)
  RUN(memory_that_runs_out_anywhere_is_survived_and_leaked_nowhere);
  RUN(memory_that_is_out_for_good_is_survived_and_leaked_nowhere);
  RUN(what_was_declared_is_restored_though_memory_was_out_for_a_moment);
  RUN(a_connection_lost_for_want_of_memory_says_so);
#endif
  return check_done();
}
