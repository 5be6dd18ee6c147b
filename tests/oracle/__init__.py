"""One oracle for every cloud: what the policy says equals what the cloud would do with what it was told.

A cloud's test has an evaluator: its published rules over the resources that it was told (`told.Resource`: type, name,
id, inputs under the names of the wire, outputs).

    from hypothesis import given
    from tests.oracle import ports
    from tests.oracle.compare import IN, OTHER, Flow, assert_agree
    from tests.oracle.configs import Case, cases
    from tests.oracle.declared import declared

    def evaluator(told):
        rules = ...                                     # read once
        def lets(flow: Flow) -> int:                    # flow.direction, .machine, .peer.address, .protocol
            return ports.span(22, 22) | ...             # a union of allows; `bits & ~denied` for a deny
        return lets

    @given(case=cases({"provider": "aws", "region": "eu-west-1"}))
    def test_the_groups_say_what_the_policy_says(case: Case) -> None:
        told = declared(case, answer, calls)            # under mocks; or `recorded(cloud.resources())` from the engine
        assert_agree(case, evaluator(told), told)

`flow.protocol` is tcp, udp, or `OTHER` (all but these and ICMP): then the answer is port 0 when it is let through, so
that a rule for all protocols is noticed. `peers` asks about the edges of every network that policy or cloud names, and
just outside of them, so that the answers stand for all addresses. `mutate` says something else to the cloud: each of
its ways has to be noticed.
"""
