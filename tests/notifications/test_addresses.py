"""Where webhooks may go: every spelling of every place that they may not."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import WebhookRefusedError
from crossfade.notifications.addresses import allowed_addresses, literal, objection, resolve, target_of

REFUSED_URLS = [
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com:70/",
    "//example.com/",
    "example.com",
    "",
    "http://",
    "http:///x",
    "https://:443/",
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://127.0.0.1@example.com/",
    "http://example.com@127.0.0.1/",
    "http://example.com#@127.0.0.1/",
    "http://example.com/#fragment",
    "http://example.com\\@127.0.0.1/",
    "http://example.com/ x",
    "http://example.com/\r\nHost: other",
    "http://exa\tmple.com/",
    "http://exämple.com/",
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://example。com/",
    "http://%31%32%37.0.0.1/",
    "http://example.com:0/",
    "http://example.com:/",
    "http://example.com:99999/",
    "http://example.com:8o/",
    "http://[::1/",
    "http://[::1]x/",
    "http://[fe80::1%25eth0]/",
    "http://[v1.fe80::a]/",
    "http://a..b/",
    "http://.example.com/",
    "http://-example.com/",
    "http://" + "a" * 64 + ".com/",
    "http://" + "a." * 130 + "com/",
    "http://example.com/" + "x" * 2000,
    # numbers that `inet_aton` reads as 127.0.0.1, 169.254.169.254 and so on
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://127.0.0.1./",
    "http://1.2.3.4.5/",
    "http://127.0.0.0x1/",
    "http://00000000177.0.0.1/",
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_urls_that_are_not_even_looked_up(url):
    with pytest.raises(WebhookRefusedError):
        target_of(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com/a?b=c", ("hooks.example.com", 443)),
        ("http://hooks.example.com:8080", ("hooks.example.com", 8080)),
        ("HTTPS://HOOKS.Example.COM/", ("hooks.example.com", 443)),
        ("http://93.184.216.34/", ("93.184.216.34", 80)),
        ("http://[2606:2800:220:1::1]:81/", ("2606:2800:220:1::1", 81)),
        ("http://xn--exmple-cua.com/", ("xn--exmple-cua.com", 80)),
        ("http://_dmarc.a-b.example.com./x", ("_dmarc.a-b.example.com.", 80)),
        ("http://localhost/", ("localhost", 80)),
    ],
)
def test_urls_that_everybody_reads_alike(url, target):
    assert target_of(url) == target


NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "febf::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:1234::1",
    "2606:2800::5efe:a9fe:a9fe",
    "2606:2800::200:5efe:169.254.169.254",
    "fe80::1%eth0",
    "100::1",
    "not an address",
    "",
]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "::1",
    "fc00::1",
    "fdff::1",
    "fec0::1",
    "2001:db8::1",
    "3fff::1",
    "64:ff9b:1::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "::ffff:0:10.0.0.1",
    "2606:2800::5efe:10.0.0.1",
]
PUBLIC = [
    "93.184.216.34",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "192.167.255.255",
    "223.255.255.255",
    "2606:2800:220:1::1",
    "2a00:1450:4001::1",
    "::ffff:93.184.216.34",
    "64:ff9b::93.184.216.34",
    "2002:5db8:d822::1",
]


@pytest.mark.parametrize("address", NEVER)
def test_what_no_setting_opens(address):
    assert objection(address)
    assert objection(address, private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_what_only_an_operator_opens(address):
    assert objection(address)
    assert not objection(address, private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_open(address):
    assert not objection(address)


@given(st.ip_addresses(v=4))
def test_nothing_is_open_that_python_knows_to_be_closed(address):
    if not objection(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "::{}", "64:ff9b::{}", "::ffff:0:{}"]))
def test_wrapping_an_address_opens_nothing(address, wrapping):
    wrapped = wrapping.format(address)
    if literal(wrapped) is not None and int(address) > 1:
        assert bool(objection(wrapped)) == bool(objection(str(address)))


def test_one_bad_address_is_enough():
    target = target_of("http://hooks.example.com/")
    for found in (["93.184.216.34", "10.0.0.1"], ["::1", "93.184.216.34"]):
        with pytest.raises(WebhookRefusedError, match="an address that is"):
            allowed_addresses(target, private=False, look_up=lambda *_, found=found: found)
    good = ["93.184.216.34", "2606:2800:220:1::1"]
    assert allowed_addresses(target, private=False, look_up=lambda *_: good) == good


def test_the_sentence_names_no_address():
    """Otherwise a plan could map the network by trying names."""
    with pytest.raises(WebhookRefusedError) as raised:
        allowed_addresses(target_of("http://db.internal/"), private=False, look_up=lambda *_: ["10.1.2.3"])
    assert "10.1.2.3" not in str(raised.value)


def test_looking_up_this_machine():
    assert set(resolve("localhost", 80)) <= {"127.0.0.1", "::1"}
    with pytest.raises(WebhookRefusedError):
        allowed_addresses(target_of("http://localhost/"), private=False)


def test_what_the_system_would_make_of_odd_spellings_is_why_they_are_refused():
    for odd in ("2130706433", "0x7f.1", "0177.0.0.1", "127.1"):
        assert socket.inet_aton(odd) == b"\x7f\0\0\1"
        assert literal(odd) is None
