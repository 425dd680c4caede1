from __future__ import annotations


async def test_the_front_page_says_what_this_is(client) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "Voice agent backend" in answer.text and "1.2.3" in answer.text
    for link in ("/docs", "/api/v1/health", "/metrics"):
        assert f'href="{link}"' in answer.text
        assert (await client.get(link)).status_code == 200
